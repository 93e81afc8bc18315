// The library's own server for the comparison of TLS: with as many tickets as the others. With BENCH_BURST=N in the
// environment it says at its end how much of the processor's time the longest iteration took before N handshakes were
// done.
#include "listen.hpp"
#include "tls_setup.hpp"

#include <protocols/echo.hpp>
#include <reactor/hook.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/tls/tls.hpp>

#include <time.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <utility>
#include <vector>

namespace {

using namespace reactor;

// This thread's, in milliseconds.
double processor_time() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) * 1e3 + double(time.tv_nsec) / 1e6;
}

int handshakes_left = 0;

// The handshake is done when `connected` comes.
class Counted final : public Protocol {
    void connected() override { --handshakes_left; }
    std::size_t received(Bytes input) override {
        transport().write(input);
        return input.size();
    }
};

class LongestIteration {
public:
    explicit LongestIteration(Reactor& reactor)
        : begins_(reactor, Hook::When::after_wait, [this] { begun_ = processor_time(); }),
          ends_(reactor, Hook::When::before_wait,
                [this] {
                    if (handshakes_left > 0) longest_ = std::max(longest_, processor_time() - begun_);
                }),
          stop_(reactor, {SIGTERM}, [&reactor](int) { reactor.stop(); }) {}
    ~LongestIteration() { std::printf("longest iteration %.2f ms\n", longest_); }

private:
    double begun_ = processor_time(), longest_ = 0;
    Hook begins_, ends_;
    Signals stop_;
};

}  // namespace

int main(int count, char** arguments) {
    const int descriptor = bench::listen_as_told(count, arguments, "reactor TLS");
    const Pem file = Pem::file(bench::certificate_file());
    TlsServerOptions options;
    options.certificates = {{file, file}};
    options.tickets = bench::tickets();
    Reactor reactor;
    std::vector<Socket> listeners;
    listeners.push_back(Socket::adopt(FileDescriptor(descriptor)));
    const char* const burst = std::getenv("BENCH_BURST");
    std::optional<LongestIteration> longest;
    if (burst != nullptr) {
        handshakes_left = std::atoi(burst);
        longest.emplace(reactor);
    }
    const TlsContext context(options);
    ProtocolFactory make = tls(context, factory<Echo>());
    if (burst != nullptr) make = tls(context, factory<Counted>());
    Acceptor acceptor(reactor, std::move(listeners), std::move(make));
    reactor.run();
}
