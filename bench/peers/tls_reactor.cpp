// The library's own server for the comparison of TLS: with as many tickets as the others.
#include "listen.hpp"
#include "tls_setup.hpp"

#include <protocols/echo.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/tls/tls.hpp>

#include <utility>
#include <vector>

int main(int count, char** arguments) {
    using namespace reactor;
    const int descriptor = bench::listen_as_told(count, arguments, "reactor TLS");
    const Pem file = Pem::file(bench::certificate_file());
    TlsServerOptions options;
    options.certificates = {{file, file}};
    options.tickets = bench::tickets();
    Reactor reactor;
    std::vector<Socket> listeners;
    listeners.push_back(Socket::adopt(FileDescriptor(descriptor)));
    Acceptor acceptor(reactor, std::move(listeners), tls(TlsContext(options), factory<Echo>()));
    reactor.run();
}
