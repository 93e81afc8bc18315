// TlsContext: the certificates, the trust and the rules of the TLS connections of one server or client. Many
// connections share one, on any number of loops.
#pragma once

#include <reactor/clock.hpp>
#include <reactor/export.hpp>
#include <reactor/tls/pem.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace reactor {

/// Older versions of the protocol are never spoken (RFC 8996).
enum class TlsVersion : std::uint8_t { tls_1_2, tls_1_3 };

/// Does a server ask its clients for a certificate?
enum class ClientCertificates : std::uint8_t {
    ignored,   ///< it does not ask
    optional,  ///< a client may have none; one that it sends must be good
    required   ///< a client without a good one is refused
};

/// The settings of a server: its certificates, its versions, and the certificates that it asks clients for.
struct TlsServerOptions {
    /// At least one. The first whose names match the client's SNI (RFC 6066 3) is sent, or else the first of all.
    std::vector<TlsCertificate> certificates = {};
    TlsVersion least = TlsVersion::tls_1_2;
    TlsVersion most = TlsVersion::tls_1_3;
    /// The application protocols of ALPN (RFC 7301), the preferred one first: "h2", "http/1.1". A client that offers
    /// only others is refused; one that offers none is served.
    std::vector<std::string> protocols = {};
    ClientCertificates client_certificates = ClientCertificates::ignored;
    /// The authorities that sign clients' certificates; needed if these are asked for.
    std::vector<Pem> client_roots = {};
    /// Revocation lists. With one, a certificate whose authority has no list here is refused as well.
    std::vector<Pem> revoked = {};
    /// How long the handshake may take; then the connection ends (Error::handshake_timeout). Zero: for ever.
    Duration handshake_timeout = std::chrono::seconds(10);
    /// Session tickets after a TLS 1.3 handshake. Each costs the handshake some 2 % and lets the client resume once.
    /// Zero: no resumption, with TLS 1.2 neither.
    unsigned tickets = 1;
};

/// The settings of a client: its trust, and its offers. A server is verified unless they say otherwise.
struct TlsClientOptions {
    /// The authorities that are trusted. Empty: those of the system (SSL_CTX_set_default_verify_paths(3)).
    std::vector<Pem> roots = {};
    /// Revocation lists, as for a server.
    std::vector<Pem> revoked = {};
    /// The client's own, for servers that ask for one.
    std::optional<TlsCertificate> certificate = {};
    /// False: any certificate will do, so that anybody may be at the other end. For tests.
    bool verify = true;
    TlsVersion least = TlsVersion::tls_1_2;
    TlsVersion most = TlsVersion::tls_1_3;
    /// The application protocols that are offered (ALPN), the preferred one first.
    std::vector<std::string> protocols = {};
    /// As for a server.
    Duration handshake_timeout = std::chrono::seconds(10);
    /// Hosts for which a session is kept, to resume it in the next connection. Zero: none is resumed.
    std::size_t resumable_hosts = 256;
};

/// A key that a server encrypts its session tickets with (RFC 5077). Servers that share these resume each other's
/// sessions. A person with such a key can read the traffic of TLS 1.2 clients of its time: it is as secret as the
/// certificate's.
struct TicketKey {
    std::array<std::byte, 16> name{};       ///< sent in the clear
    std::array<std::byte, 32> cipher{};     ///< AES-256
    std::array<std::byte, 32> signature{};  ///< HMAC with SHA-256

    /// A fresh one. Throws std::system_error if the system has no random bytes.
    REACTOR_EXPORT static TicketKey random();
};

/// May be copied: copies are the same context. Only TLS 1.2 and 1.3 are spoken, without compression and renegotiation,
/// with ciphers that authenticate and keep earlier traffic secret (AEAD, ECDHE).
///
/// Thread: any, at any time. Lifetime: connections keep what they need of it.
class REACTOR_EXPORT TlsContext {
public:
    /// For a server. Throws std::system_error that names the file and says what is wrong with it, std::invalid_argument
    /// for options that could never serve, and std::bad_alloc.
    explicit TlsContext(const TlsServerOptions& options);
    /// For a client.
    explicit TlsContext(const TlsClientOptions& options);

    bool is_server() const noexcept;

    /// Reads the certificates, authorities and lists again: all of these options' files. Handshakes that begin from now
    /// on use them; earlier connections are not touched. If this throws, as the constructor does, the old ones stay in
    /// use. Session tickets stay valid.
    void reload();
    /// The same with other options, of the same kind. Throws std::invalid_argument for a context of the other kind.
    void reload(const TlsServerOptions& options);
    void reload(const TlsClientOptions& options);

    /// For a server: new tickets are encrypted with the first of these, and tickets of all of them are accepted. Until
    /// this is called, the context makes a random key, replaces it after 12 hours, and accepts it for 12 more. Throws
    /// std::invalid_argument if there is none.
    void set_ticket_keys(std::vector<TicketKey> keys);

    class State;
    const std::shared_ptr<State>& state() const noexcept { return state_; }

private:
    std::shared_ptr<State> state_;
};

}  // namespace reactor
