// The contents of a TlsContext: options and OpenSSL's contexts, which can be reloaded; ticket keys; and the clients'
// sessions. Not installed.
#pragma once

#include <reactor/tls/openssl_impl.hpp>
#include <reactor/tls/tls_context.hpp>

#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace reactor {

class TlsContext::State : public std::enable_shared_from_this<TlsContext::State> {
public:
    explicit State(TlsServerOptions options);
    explicit State(TlsClientOptions options);

    bool is_server() const noexcept { return std::holds_alternative<TlsServerOptions>(options_); }
    bool verifies() const noexcept { return verifies_; }
    Duration handshake_timeout() const noexcept { return handshake_timeout_; }

    /// A session of a connection: server or client of `host`. Throws std::bad_alloc, and std::system_error if OpenSSL
    /// refuses.
    SslPointer make_ssl(const std::string& host);

    void reload();
    void reload(TlsServerOptions options);
    void reload(TlsClientOptions options);
    void set_ticket_keys(std::vector<TicketKey> keys);

private:
    /// One for each certificate, the first in use until SNI chooses. Made anew by reload; connections keep theirs.
    struct Contexts {
        std::vector<SslContextPointer> all;
        /// The certificate for that name; null if none is.
        SSL_CTX* for_name(const char* name) const noexcept;
    };
    using Options = std::variant<TlsServerOptions, TlsClientOptions>;

    static std::shared_ptr<const Contexts> make_contexts(const Options& options);
    std::shared_ptr<const Contexts> contexts() const;
    void use(Options options);
    SessionPointer take_session(const std::string& host) noexcept;
    void keep_session(const std::string& host, SessionPointer session);
    static int choose_certificate(SSL* ssl, int* alert, void* unused);
    static int choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* size,
                               const unsigned char* offered, unsigned offered_size, void* unused);
    static int ticket_key(SSL* ssl, unsigned char* name, unsigned char* vector, EVP_CIPHER_CTX* cipher,
                          EVP_MAC_CTX* signature, int encrypt);
    static int new_session(SSL* ssl, SSL_SESSION* session);
    TicketKey key_to_encrypt();
    std::optional<TicketKey> key_named(const unsigned char* name, bool& is_first);
    void rotate(TimePoint now);

    mutable std::mutex mutex_;
    Options options_;
    bool verifies_ = true;
    Duration handshake_timeout_{};
    std::shared_ptr<const Contexts> contexts_;

    // The tickets of a server.
    std::vector<TicketKey> keys_;
    bool own_keys_ = true;
    TimePoint first_key_since_{};  // by the machine's clock, as loops may have others

    // The sessions of a client, the last used host first.
    struct Kept {
        std::string host;
        SessionPointer session;
    };
    std::list<Kept> sessions_;
    std::map<std::string, std::list<Kept>::iterator> sessions_by_host_;
};

}  // namespace reactor
