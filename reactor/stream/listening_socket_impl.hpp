// A socket that listens, with the file that it may have, and how one is made. Not installed.
#pragma once

#include <reactor/net/address.hpp>
#include <reactor/net/socket.hpp>
#include <reactor/net/socket_file.hpp>

#include <utility>

namespace reactor {

struct AcceptorOptions;
class Network;

// A socket that listens, or is about to. The file that binding a Unix socket makes goes with it.
class ListeningSocket {
public:
    // `known_as` is another address than the socket's own in a network of a test's.
    ListeningSocket(Socket socket, const Address& address, const Address& known_as = {});

    // One that listens already, and whose file has another owner.
    explicit ListeningSocket(Socket socket) noexcept : socket_(std::move(socket)) {}

    void leave_file() noexcept { file_.release(); }

    explicit operator bool() const noexcept { return bool(socket_); }
    Socket* operator->() noexcept { return &socket_; }
    const Socket* operator->() const noexcept { return &socket_; }
    const Socket& get() const noexcept { return socket_; }
    Address local() const noexcept { return known_as_.family() == Address::Family::none ? socket_.local() : known_as_; }

    // It was closed behind our back, and its number may be another file's by now.
    void forget() noexcept {
        file_.remove();
        (void)socket_.release().release();
    }
    void close() noexcept {
        file_.remove();  // first: without a file a new server may listen at once; a dead file costs it a check
        socket_.close();
    }

private:
    Socket socket_;
    SocketFile file_;
    Address known_as_;
};

// Would it still accept something?
bool listens(const Socket& socket) noexcept;

// Throws std::system_error. `network` is a test's, or null.
ListeningSocket open_listening_socket(const Address& address, SocketKind kind, const AcceptorOptions& options,
                                      Network* network);

}  // namespace reactor
