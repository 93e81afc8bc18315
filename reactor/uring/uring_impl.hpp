// The backend "io_uring" over a queue and a demultiplexer of the caller's. Not installed.
#pragma once

#include <reactor/demultiplexer.hpp>
#include <reactor/uring/completion_queue.hpp>

#include <memory>

namespace reactor {

std::unique_ptr<Demultiplexer> make_uring(std::unique_ptr<CompletionQueue> queue,
                                          std::unique_ptr<Demultiplexer> others);

}  // namespace reactor
