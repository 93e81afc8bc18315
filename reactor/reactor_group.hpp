// ReactorGroup: a reactor for each of several threads, for programs that one core cannot serve. The loops share
// nothing. Acceptors that share a port or hand their connections over (AcceptorOptions), and Connection::move_to,
// decide which connections each of them gets.
//
//     ReactorGroup group;                                 // as many loops as the machine runs threads at once
//     group.start([](Reactor& reactor, std::size_t) {     // on each thread
//         Acceptor acceptor{reactor, "localhost", 10000, factory<Echo>(), {.reuse_port = true}};
//         reactor.run();
//     });
//     group.join();                                       // throws the exception of one of them
#pragma once

#include <reactor/export.hpp>
#include <reactor/reactor.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace reactor {

/// Reactors and the threads that run them, started, stopped and joined as one. Before `start` and after `join` the
/// reactors belong to the owner of the group: acceptors, timers and signals may be made and destroyed there. In
/// between each belongs to its own thread, and others may only `post()` and `stop()`.
class REACTOR_EXPORT ReactorGroup {
public:
    /// The function of each thread; called on all of them at once.
    using Body = std::function<void(Reactor& reactor, std::size_t index)>;

    /// Makes so many reactors, one for each thread, and no thread yet. Zero: as many as run at once
    /// (std::thread::hardware_concurrency). `backend` and errors as for Reactor.
    explicit ReactorGroup(std::size_t threads = 0, std::string_view backend = "auto");

    /// Stops and joins. An exception out of a body is dropped: call `join` before to get it. Then the reactors are
    /// destroyed, with their connections: declare the objects that these use before the group.
    ///
    /// From one of the group's own threads: the others are joined and this one is not. Its loop returns at the end of
    /// the turn. When its body has returned too, that thread destroys the body and the reactors.
    ~ReactorGroup();
    ReactorGroup(const ReactorGroup&) = delete;
    ReactorGroup& operator=(const ReactorGroup&) = delete;

    std::size_t size() const noexcept { return shared_->reactors.size(); }
    Reactor& operator[](std::size_t index) const noexcept { return *shared_->reactors[index]; }

    /// The threads that `start` makes are called this and their number ("echo-0"), where the system has names for
    /// threads. Linux shows 15 characters (pthread_setname_np(3)); the name is cut so that the number is seen.
    void set_name(std::string name) { shared_->name = std::move(name); }

    /// Starts the threads. Each calls `body` with its reactor, which runs it, as often as it likes: once more to drain
    /// its connections, say. All signals are blocked in the threads, but for faults and profilers (SIGPROF), so they
    /// come to the threads that the program has made itself. An exception out of `body` stops the whole group. Throws
    /// std::system_error if there is no thread to be had, and then those that ran have been stopped and joined;
    /// std::logic_error if the group runs already; std::invalid_argument for an empty body.
    void start(Body body = [](Reactor& reactor, std::size_t) { reactor.run(); });

    /// Calls stop() on every reactor. From any thread and from signal handlers, as long as the group lives.
    void stop() noexcept;

    /// Waits until every body has returned, and throws what the first threw that threw. Afterwards the group may be
    /// started again: a stop() that came while it ran counts no longer. Throws std::logic_error on one of its own
    /// threads.
    void join();

private:
    // The state of the threads. It goes with the last of them, which may be later than the group.
    struct Shared {
        void run(std::size_t index) noexcept;
        void stop() noexcept;

        std::string name;
        Body body;
        std::mutex failure_mutex;
        std::exception_ptr failure;
        std::vector<std::unique_ptr<Reactor>> reactors;  // last: destroyed first, when the body's captures still live
    };

    void join_all() noexcept;

    const std::shared_ptr<Shared> shared_;
    std::vector<std::thread> threads_;
};

}  // namespace reactor
