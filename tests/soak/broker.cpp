// The publish/subscribe example as a program, on a free port, for the tests that abuse it.
#include <protocols/examples/publish_subscribe.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>

#include <sys/resource.h>

#include <csignal>
#include <cstdio>
#include <string>

using namespace reactor;

int main() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    Broker broker;
    Reactor reactor;
    Acceptor acceptor(reactor, "127.0.0.1", 0, [&broker] { return broker.subscriber(); });
    const Signals signals(reactor, {SIGTERM}, [&](int) { reactor.stop(); });
    std::printf("listening on %s (%s)\n", acceptor.addresses().at(0).to_string().c_str(),
                std::string(reactor.backend()).c_str());
    std::fflush(stdout);
    reactor.run();
}
