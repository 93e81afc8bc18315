// The floor of TLS: the echo written by hand on epoll and OpenSSL, with one BIO for all connections. One read, SSL_read
// until all of it is used, one SSL_write for all that came, one send. A sweep frees the record buffers of silent
// connections, as a server with many of them must.
#include "listen.hpp"
#include "tls_setup.hpp"

#include <openssl/err.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

namespace {

struct Peer {
    int descriptor = -1;
    SSL* ssl = nullptr;
    bool active = false, holds_buffers = false, waits = false;
    std::vector<char> rest;  // that could not be sent at once
};

std::vector<char> input(64 * 1024), plain(5 * 16 * 1024), sealed;
const char* next = nullptr;  // of the input
std::size_t left = 0;
int epoll = -1;

int read_bio(BIO* bio, char* into, std::size_t size, std::size_t* count) {
    *count = std::min(size, left);
    if (*count == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    std::memcpy(into, next, *count);
    next += *count;
    left -= *count;
    return 1;
}

int write_bio(BIO*, const char* data, std::size_t size, std::size_t* count) {
    sealed.insert(sealed.end(), data, data + size);
    *count = size;
    return 1;
}

long control_bio(BIO*, int command, long, void*) {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO* make_bio() {
    BIO_METHOD* const method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bare");
    BIO_meth_set_read_ex(method, &read_bio);
    BIO_meth_set_write_ex(method, &write_bio);
    BIO_meth_set_ctrl(method, &control_bio);
    BIO* const bio = BIO_new(method);
    BIO_set_init(bio, 1);
    return bio;
}

void watch(Peer& peer, bool waits) {
    if (peer.waits == waits) return;
    peer.waits = waits;
    epoll_event event{};
    event.events = waits ? EPOLLOUT : EPOLLIN;
    event.data.ptr = &peer;
    ::epoll_ctl(epoll, EPOLL_CTL_MOD, peer.descriptor, &event);
}

bool send_sealed(Peer& peer) {
    if (sealed.empty()) return true;
    const ssize_t sent = ::send(peer.descriptor, sealed.data(), sealed.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return false;
    const std::size_t gone = std::size_t(std::max<ssize_t>(sent, 0));
    if (gone < sealed.size()) {
        peer.rest.assign(sealed.data() + gone, sealed.data() + sealed.size());
        watch(peer, true);
    }
    sealed.clear();
    return true;
}

// False if the connection is over.
bool echo(Peer& peer) {
    const ssize_t received = ::recv(peer.descriptor, input.data(), input.size(), 0);
    if (received <= 0) return received < 0 && errno == EAGAIN;
    next = input.data();
    left = std::size_t(received);
    peer.active = peer.holds_buffers = true;
    if (!SSL_is_init_finished(peer.ssl)) {
        const int result = SSL_do_handshake(peer.ssl);
        if (result != 1 && SSL_get_error(peer.ssl, result) != SSL_ERROR_WANT_READ) return ERR_clear_error(), false;
        if (result != 1) return send_sealed(peer);
    }
    std::size_t filled = 0, count = 0;
    bool open = true;
    while (left > 0) {
        if (SSL_read_ex(peer.ssl, plain.data() + filled, plain.size() - filled, &count) == 1) {
            filled += count;
            continue;
        }
        open = SSL_get_error(peer.ssl, 0) == SSL_ERROR_WANT_READ;
        if (!open) ERR_clear_error();
        break;
    }
    if (filled > 0 && SSL_write_ex(peer.ssl, plain.data(), filled, &count) != 1) return ERR_clear_error(), false;
    return send_sealed(peer) && open;
}

bool send_rest(Peer& peer) {
    const ssize_t sent = ::send(peer.descriptor, peer.rest.data(), peer.rest.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    peer.rest.erase(peer.rest.begin(), peer.rest.begin() + sent);
    if (peer.rest.empty()) watch(peer, false);
    return true;
}

}  // namespace

int main(int count, char** arguments) {
    const int listener = bench::listen_as_told(count, arguments, "bare TLS");
    SSL_CTX* const context = SSL_CTX_new(TLS_server_method());
    bench::set_up(context);
    BIO* const bio = make_bio();
    epoll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    std::vector<Peer*> peers;  // by descriptor
    std::array<epoll_event, 256> events;
    std::time_t swept = std::time(nullptr);
    for (;;) {
        const int ready = ::epoll_wait(epoll, events.data(), int(events.size()), 1000);
        for (int i = 0; i < ready; ++i) {
            auto* const peer = static_cast<Peer*>(events[std::size_t(i)].data.ptr);
            if (peer == nullptr) {
                const int descriptor = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (descriptor < 0) continue;
                bench::no_delay(descriptor);
                auto* const made = new Peer;
                made->descriptor = descriptor;
                made->ssl = SSL_new(context);
                BIO_up_ref(bio);
                SSL_set_bio(made->ssl, bio, bio);
                SSL_set_accept_state(made->ssl);
                if (peers.size() <= std::size_t(descriptor)) peers.resize(std::size_t(descriptor) + 1);
                peers[std::size_t(descriptor)] = made;
                event.data.ptr = made;
                ::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
                continue;
            }
            if (peer->waits ? send_rest(*peer) : echo(*peer)) continue;
            sealed.clear();
            peers[std::size_t(peer->descriptor)] = nullptr;
            ::close(peer->descriptor);
            SSL_free(peer->ssl);
            delete peer;
        }
        const std::time_t now = std::time(nullptr);
        if (now == swept) continue;
        swept = now;
        for (Peer* const peer : peers) {
            if (peer == nullptr || !peer->holds_buffers || std::exchange(peer->active, false)) continue;
            peer->holds_buffers = SSL_free_buffers(peer->ssl) != 1;
        }
    }
}
