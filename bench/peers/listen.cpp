#include "listen.hpp"

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace bench {

int listen_as_told(int count, char** arguments, const char* name) {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    CLI::App app{"An echo server that the library is compared with."};
    app.option_defaults()->always_capture_default();
    app.add_option("--host", host, "IPv4 address to listen on");
    app.add_option("--port", port, "Port to listen on; 0 takes a free one");
    try {
        app.parse(count, arguments);
    } catch (const CLI::ParseError& error) {
        std::exit(app.exit(error));
    }
    std::signal(SIGTERM, [](int) { ::_exit(0); });
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    socklen_t length = sizeof address;
    if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1 ||
        ::bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener, SOMAXCONN) != 0 ||
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
        fmt::print(stderr, "{}: cannot listen on {}:{}: {}\n", name, host, port, std::strerror(errno));
        std::exit(1);
    }
    fmt::print("listening on {}:{} ({})\n", host, ntohs(address.sin_port), name);
    std::fflush(stdout);
    return listener;
}

void no_delay(int descriptor) {
    const int on = 1;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace bench
