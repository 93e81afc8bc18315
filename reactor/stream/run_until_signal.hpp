// run_until_signal: the main function of a server that ends in good order.
//
//     Reactor reactor;
//     Acceptor acceptor{reactor, "localhost", 10000, factory<Echo>()};
//     run_until_signal(reactor, {SIGINT, SIGTERM}, std::chrono::seconds(30));
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/drain.hpp>

#include <csignal>
#include <initializer_list>

namespace reactor {

/// How run_until_signal() ended.
struct EndedBySignal {
    int signal = 0;        ///< the first that came; 0 if Reactor::stop() was called before
    bool drained = false;  ///< false if Reactor::stop() ended it before the drain was over
    Drained connections;   ///< the outcome of the drain
};

/// Runs the loop until one of `signals` comes to the process, then drains it (drain() in reactor/stream/drain.hpp) for
/// at most `grace`, and returns. A second signal ends the grace period: the connections that are left are aborted. With
/// Draining::left each connection goes on until it ends by itself, as suits a proxy. Timers and datagrams go on until
/// it returns. Reactor::stop() ends it at any time.
///
/// Thread: the one that runs the loop. Errors: those of Signals and of Reactor::run(); the signals have their earlier
/// dispositions then, and a drain that has begun goes on in the next run.
REACTOR_EXPORT EndedBySignal run_until_signal(Reactor& reactor, std::initializer_list<int> signals, Duration grace,
                                              Draining how = Draining::told);

}  // namespace reactor
