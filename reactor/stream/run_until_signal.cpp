// A server's main function: run, drain at the first signal, cut at the second.
#include <reactor/signals.hpp>
#include <reactor/stream/run_until_signal.hpp>

#include <memory>

namespace reactor {

EndedBySignal run_until_signal(Reactor& reactor, std::initializer_list<int> signals, Duration grace, Draining how) {
    // If an exception leaves the loop, the drain outlives this call, and must not find what is on its stack.
    const auto end = std::make_shared<EndedBySignal>();
    const Signals watched(reactor, signals, [&](int signal) {
        if (end->signal != 0) return cut_drain(reactor);
        const auto drained = [&reactor, ending = std::weak_ptr(end)](const Drained& connections) {
            const std::shared_ptr<EndedBySignal> report = ending.lock();
            if (report == nullptr) return;
            report->drained = true;
            report->connections = connections;
            reactor.stop();
        };
        drain(reactor, grace, drained, how);
        end->signal = signal;
    });
    reactor.run();
    return *end;
}

}  // namespace reactor
