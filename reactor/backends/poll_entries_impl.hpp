// poll(2), for any number of descriptors: every backend asks it for the state of a descriptor by its number.
#pragma once

#include <reactor/backends/kernel_words_impl.hpp>
#include <reactor/export.hpp>

#include <poll.h>

#include <optional>
#include <span>

namespace reactor::backends {

/// ppoll(2) without a signal mask: how many entries have something to say, or -1 and errno. Linux refuses more entries
/// than the process may open descriptors now (EINVAL), although they may have been opened before the limit was lowered.
/// They are asked in pieces then, which takes some milliseconds to see what is ready in another piece than the first.
/// With a limit of none it stays EINVAL.
REACTOR_INTERNAL int poll_entries(std::span<pollfd> entries, std::optional<Duration> limit) noexcept;

}  // namespace reactor::backends
