// communicate: a child that is given its input and leaves its output, as a command in a shell's pipeline does.
//
//     Communication sort = communicate(reactor, {"sort"}, "b\na\n", [](Communicated result) { use(result.output); });
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/process.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace reactor {

/// The result of a child: its end and its output.
struct Communicated {
    ExitStatus status;
    std::string output;  ///< its standard output
    std::string error;   ///< its standard error
    /// Set if the child was killed from here: timed_out, or Error::input_limit if it wrote too much.
    std::error_code reason;

    bool success() const noexcept { return status.success() && !reason; }
};

/// The bounds and the surroundings of a child that communicate() starts.
struct CommunicateOptions {
    /// Bytes of output, and of error output, that are kept. At one more the child is killed.
    std::size_t most_output = 16 * 1024 * 1024;
    /// Time from the start until the child has ended and its output is read; then it is killed. Zero: no limit.
    Duration timeout = Duration::zero();
};

/// A child under way. Destroying it kills the child, and the callback is not called. On the loop's thread; must go
/// before its reactor.
class REACTOR_EXPORT [[nodiscard]] Communication {
public:
    Communication(Communication&&) noexcept;
    Communication& operator=(Communication&&) noexcept;
    ~Communication();

    /// The child's id; of no use once it has ended.
    pid_t id() const noexcept;

private:
    friend Communication communicate(Reactor&, const Command&, std::string_view, MoveOnlyFunction<void(Communicated)>,
                                     CommunicateOptions);
    struct State;
    class Collector;
    explicit Communication(std::shared_ptr<State> state) noexcept;
    std::shared_ptr<State> state_;
};

/// Starts `command` as Process does, writes `input` to its standard input and ends that, and collects what it writes.
/// `done` is called once from the loop, when the child has ended and both its outputs have: a child of its own that
/// keeps them open delays that. A child that does not read its input is no error. Throws what Process throws,
/// std::invalid_argument for an empty callback, and std::bad_alloc.
REACTOR_EXPORT Communication communicate(Reactor& reactor, const Command& command, std::string_view input,
                                         MoveOnlyFunction<void(Communicated)> done, CommunicateOptions options = {});

}  // namespace reactor
