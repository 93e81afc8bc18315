// TLS for the load program: a stream that is read and written like a socket. Without OpenSSL there is none, and bytes
// go as they are.
#pragma once

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <stdexcept>

#ifdef WITH_OPENSSL
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

namespace bench {

class TlsClient {
public:
    /// From now on every stream speaks TLS. No certificate is verified and no session resumed.
    static void use() {
#ifdef WITH_OPENSSL
        context() = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_session_cache_mode(context(), SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(
            context(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
#else
        throw std::runtime_error("--tls: this program was built without OpenSSL");
#endif
    }

    void begin(int descriptor) {
        descriptor_ = descriptor;
#ifdef WITH_OPENSSL
        if (context() == nullptr) return;
        ssl_.reset(SSL_new(context()));
        SSL_set_fd(ssl_.get(), descriptor);
        SSL_set_connect_state(ssl_.get());
#endif
    }

    ssize_t send(const char* data, std::size_t size) {
#ifdef WITH_OPENSSL
        if (ssl_ != nullptr) return result(SSL_write(ssl_.get(), data, int(size)));
#endif
        return ::send(descriptor_, data, size, MSG_NOSIGNAL);
    }

    ssize_t receive(char* into, std::size_t size) {
#ifdef WITH_OPENSSL
        if (ssl_ != nullptr) return result(SSL_read(ssl_.get(), into, int(size)));
#endif
        return ::recv(descriptor_, into, size, 0);
    }

    /// After EAGAIN of `send`: does it wait for room, or for input of the handshake?
    bool waits_for_input() const noexcept {
        return waits_for_input_;
    }
    /// Is there input that no descriptor will report?
    bool pending() const noexcept {
#ifdef WITH_OPENSSL
        return ssl_ != nullptr && SSL_pending(ssl_.get()) > 0;
#else
        return false;
#endif
    }
    /// Before the descriptor is closed.
    void end() noexcept {
#ifdef WITH_OPENSSL
        if (ssl_ == nullptr) return;
        if (SSL_shutdown(ssl_.get()) < 0) ERR_clear_error();
        ssl_.reset();
#endif
    }

private:
    int descriptor_ = -1;
    bool waits_for_input_ = false;
#ifdef WITH_OPENSSL
    static SSL_CTX*& context() noexcept {
        static SSL_CTX* made = nullptr;
        return made;
    }

    ssize_t result(int count) noexcept {
        waits_for_input_ = false;
        if (count > 0) return count;
        const int error = SSL_get_error(ssl_.get(), count);
        waits_for_input_ = error == SSL_ERROR_WANT_READ;
        if (error == SSL_ERROR_ZERO_RETURN) return 0;
        const bool waits = waits_for_input_ || error == SSL_ERROR_WANT_WRITE;
        ERR_clear_error();
        errno = waits ? EAGAIN : EPROTO;
        return -1;
    }

    struct Free {
        void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
    };
    std::unique_ptr<SSL, Free> ssl_;
#endif
};

}  // namespace bench
