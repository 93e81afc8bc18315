// The common part of the servers for other people's clients: they listen on a free port of the loopback interface,
// print it, and end on SIGTERM.
#pragma once

#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <utility>

namespace interop {

inline int serve(reactor::ProtocolFactory factory) {
    try {
        reactor::Reactor reactor;
        const reactor::Acceptor acceptor(reactor, "127.0.0.1", 0, std::move(factory));
        const reactor::Signals signals(reactor, {SIGTERM}, [&](int) { reactor.stop(); });
        const std::string address = acceptor.addresses().front().to_string();
        std::printf("listening on %s (%s)\n", address.c_str(), std::string(reactor.backend()).c_str());
        std::fflush(stdout);
        reactor.run();
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return EXIT_FAILURE;
    }
}

}  // namespace interop
