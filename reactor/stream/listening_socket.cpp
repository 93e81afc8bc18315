// How a socket comes to listen, and how it is seen that it does not any more.
#include <reactor/stream/listening_socket_impl.hpp>

#include <reactor/net/bind_everywhere_impl.hpp>
#include <reactor/net/detail/network.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/system_impl.hpp>

#include <poll.h>
#include <sys/socket.h>

#include <utility>

namespace reactor {

namespace {

constexpr int backlog = 4096;

}  // namespace

ListeningSocket::ListeningSocket(Socket socket, const Address& address, const Address& known_as)
    : socket_(std::move(socket)), known_as_(known_as) {
    bind_replacing(socket_, address);
    file_ = SocketFile(address);
}

// SO_ACCEPTCONN alone does not say it: a Unix socket that was shut down keeps the state of one that listens (Linux 6.1,
// net/unix/af_unix.c: unix_shutdown sets a flag). poll(2) says POLLHUP or POLLRDHUP for it, and never for one that
// listens.
bool listens(const Socket& socket) noexcept {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) return false;
    short ended = POLLHUP | POLLNVAL;
#if REACTOR_HAS(POLLRDHUP)
    ended |= POLLRDHUP;
#endif
    pollfd entry{socket.get(), short(POLLIN | ended), 0};
    return ::poll(&entry, 1, 0) <= 0 || (entry.revents & ended) == 0;
}

ListeningSocket open_listening_socket(const Address& address, SocketKind kind, const AcceptorOptions& options,
                                      Network* network) {
    if (network != nullptr && Network::has(address)) {
        Address known_as = address;
        const Address place = network->place_of(known_as);
        Socket socket = Socket::open(place.family(), kind);
        options.connection.apply_to(socket);
        ListeningSocket listening(std::move(socket), place, known_as);
        listening->listen(backlog);
        return listening;
    }
    Socket socket = Socket::open(address.family(), kind);
    if (address.family() != Address::Family::unix_domain) {
        // Unix sockets know neither: there a second bind(2) to a path fails whatever is set.
        socket.set_reuse_address(true);
        if (options.reuse_port) socket.set_reuse_port(true);
    }
    // Or :: would take 0.0.0.0's port too, on machines where the administrator has not said otherwise.
    if (address.family() == Address::Family::ipv6) socket.set_v6_only(true);
    options.connection.apply_to(socket);
    ListeningSocket listening(std::move(socket), address);
    // The options are set by now, because the first connections come with listen(2) and copy what the listener has. For
    // a receive buffer it is the only time: TCP's window scale is agreed upon in the handshake (tcp(7)).
    listening->listen(backlog);
    return listening;
}

}  // namespace reactor
