// A child with input and output as a whole: a Process and a protocol for each of its outputs. The child's exit and the
// ends of its outputs come in any order, and the callback when all three are there.
#include <reactor/stream/communicate.hpp>

#include <reactor/stream/protocol.hpp>
#include <reactor/timer.hpp>

#include <algorithm>
#include <csignal>
#include <stdexcept>
#include <utility>

namespace reactor {

// Shared with the protocols of the child's streams, which belong to the loop and may outlive it.
struct Communication::State {
    State(Reactor& reactor, std::size_t most, MoveOnlyFunction<void(Communicated)> call)
        : most_output(most),
          done(std::move(call)),
          timeout(reactor, [this] { kill(std::make_error_code(std::errc::timed_out)); }) {}

    void kill(std::error_code reason) {
        if (!result.reason) result.reason = reason;
        if (process->kill(SIGKILL)) return;
        // It has ended, and a child of its own holds its outputs.
        streams = 0;
        finish();
    }

    // The callback may destroy the communication, and this with it.
    void finish() {
        if (streams > 0 || process->running() || !done) return;
        timeout.cancel();
        MoveOnlyFunction<void(Communicated)> call = std::exchange(done, nullptr);
        call(std::move(result));
    }

    std::size_t most_output;
    MoveOnlyFunction<void(Communicated)> done;
    Communicated result;
    int streams = 2;  // outputs that have not ended
    std::unique_ptr<Process> process;
    Timer timeout;
};

// One of the child's outputs, and its input.
class Communication::Collector final : public Protocol {
public:
    Collector(std::weak_ptr<State> state, std::string Communicated::*into, std::string input)
        : state_(std::move(state)), into_(into), input_(std::move(input)) {}

private:
    void connected() override {
        transport().write(input_);
        input_ = {};
        transport().shutdown_write();
    }

    std::size_t received(Bytes data) override {
        const std::shared_ptr<State> state = state_.lock();
        if (state == nullptr) {
            transport().abort();
            return data.size();
        }
        std::string& output = state->result.*into_;
        const std::size_t room = state->most_output - output.size();
        output += text_of(data.first(std::min(room, data.size())));
        if (data.size() > room) {
            transport().abort();
            state->kill(Error::input_limit);
        }
        return data.size();
    }

    void disconnected(std::error_code) override {
        const std::shared_ptr<State> state = state_.lock();
        if (state == nullptr) return;
        if (state->streams > 0) --state->streams;
        state->finish();
    }

    std::weak_ptr<State> state_;
    std::string Communicated::*into_;
    std::string input_;
};

Communication::Communication(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
Communication::Communication(Communication&&) noexcept = default;
Communication& Communication::operator=(Communication&&) noexcept = default;
Communication::~Communication() = default;

pid_t Communication::id() const noexcept {
    return state_->process->id();
}

Communication communicate(Reactor& reactor, const Command& command, std::string_view input,
                          MoveOnlyFunction<void(Communicated)> done, CommunicateOptions options) {
    if (!done) throw std::invalid_argument("communicate: an empty callback");
    using State = Communication::State;
    const auto state = std::make_shared<State>(reactor, options.most_output, std::move(done));
    ProcessOptions streams;
    streams.input = streams.output = streams.error = ProcessOptions::Stream::pipe;
    streams.protocol = std::make_unique<Communication::Collector>(state, &Communicated::output, std::string(input));
    streams.error_protocol = std::make_unique<Communication::Collector>(state, &Communicated::error, std::string());
    if (options.timeout > Duration::zero()) state->timeout.start(options.timeout);
    state->process = std::make_unique<Process>(
        reactor, command, std::move(streams), [watched = std::weak_ptr(state)](ExitStatus status) {
            const std::shared_ptr<State> kept = watched.lock();
            if (kept == nullptr) return;
            kept->result.status = status;
            if (kept->result.reason) kept->streams = 0;  // killed from here: its unread output is not waited for
            kept->finish();
        });
    return Communication(state);
}

}  // namespace reactor
