// Setting up a TLS context: OpenSSL's contexts from PEM texts, with errors that name the file; and the sessions of
// connections. Tickets and resumption are in tls_sessions.cpp.
#include <reactor/tls/tls_context.hpp>

#include <reactor/tls/pem_impl.hpp>
#include <reactor/tls/tls_context_impl.hpp>
#include <reactor/tls/tls_error.hpp>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string_view>
#include <system_error>

namespace reactor {

namespace {

// TLS 1.2's: keys that are not kept (ECDHE), and encryption that authenticates (AEAD).
constexpr const char* ciphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

// Elliptic curves alone. Without a list OpenSSL also agrees on ffdhe2048 in TLS 1.3, which sslscan rates at 112 bits.
// The first is for OpenSSL 3.5, whose own list begins with a group that resists quantum computers; 3.0 does not know
// it.
constexpr const char* groups_from_defaults = "DEFAULT:-ffdhe2048:-ffdhe3072";
constexpr const char* groups = "X25519:P-256:X448:P-521:P-384";

// 112 bits: no RSA key below 2048 bits, and no SHA-1 in a signature.
constexpr int security_level = 2;

[[noreturn]] void refused(const std::string& what) {
    throw std::system_error(take_openssl_error(), "TlsContext: " + what);
}

int number_of(TlsVersion version) noexcept {
    return version == TlsVersion::tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
}

// As TLS writes them (RFC 7301 3.1): each with its length in front.
std::string wire_form(const std::vector<std::string>& protocols) {
    std::string result;
    for (const std::string& protocol : protocols) {
        if (protocol.empty() || protocol.size() > 255)
            throw std::invalid_argument("TlsContext: a protocol of ALPN has 1 to 255 bytes, and \"" + protocol +
                                        "\" has " + std::to_string(protocol.size()));
        result += char(protocol.size());
        result += protocol;
    }
    return result;
}

SslContextPointer make_context(bool server, TlsVersion least, TlsVersion most) {
    if (least > most) throw std::invalid_argument("TlsContext: the least version is above the most");
    SslContextPointer context(SSL_CTX_new(server ? TLS_server_method() : TLS_client_method()));
    if (context == nullptr) refused("SSL_CTX_new");
    SSL_CTX* const made = context.get();
    SSL_CTX_set_security_level(made, security_level);
    if (SSL_CTX_set_min_proto_version(made, number_of(least)) != 1 ||
        SSL_CTX_set_max_proto_version(made, number_of(most)) != 1 || SSL_CTX_set_cipher_list(made, ciphers) != 1)
        refused("the versions or the ciphers");
    if (SSL_CTX_set1_groups_list(made, groups_from_defaults) != 1) {
        ERR_clear_error();
        if (SSL_CTX_set1_groups_list(made, groups) != 1) refused("the groups");
    }
    SSL_CTX_set_options(made, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    // At first: see TlsTransport::note_activity.
    SSL_CTX_set_mode(made, SSL_MODE_RELEASE_BUFFERS);
    // The system's openssl.cnf may say otherwise. An end without close_notify is an error here.
    SSL_CTX_clear_options(made, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
    return context;
}

void use_certificate(SSL_CTX* context, const TlsCertificate& certificate) {
    const std::vector<X509Pointer> chain = certificates_in(certificate.chain);
    const KeyPointer key = key_in(certificate.key);
    const std::string name = certificate.chain.name();
    if (SSL_CTX_use_certificate(context, chain.front().get()) != 1) refused("the certificate in " + name);
    for (std::size_t i = 1; i < chain.size(); ++i)
        if (SSL_CTX_add1_chain_cert(context, chain[i].get()) != 1)
            refused("certificate " + std::to_string(i + 1) + " in " + name);
    if (X509_check_private_key(chain.front().get(), key.get()) != 1)
        refused("the key in " + certificate.key.name() + " is not that of the certificate in " + name);
    if (SSL_CTX_use_PrivateKey(context, key.get()) != 1) refused("the key in " + certificate.key.name());
}

void use_roots(SSL_CTX* context, const std::vector<Pem>& roots, const std::vector<Pem>& revoked) {
    X509_STORE* const store = SSL_CTX_get_cert_store(context);
    for (const Pem& pem : roots)
        for (const X509Pointer& certificate : certificates_in(pem))
            if (X509_STORE_add_cert(store, certificate.get()) != 1) refused("a root in " + pem.name());
    for (const Pem& pem : revoked)
        for (const X509CrlPointer& list : revocation_lists_in(pem))
            if (X509_STORE_add_crl(store, list.get()) != 1) refused("a revocation list in " + pem.name());
    if (!revoked.empty()) X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
}

// With an address instead of a name there is no SNI (RFC 6066 3).
bool set_host(SSL* ssl, const std::string& host) {
    X509_VERIFY_PARAM* const wanted = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str()) == 1) return true;
    ERR_clear_error();
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    return SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
}

}  // namespace

// ── the public class ──

TlsContext::TlsContext(const TlsServerOptions& options) : state_(std::make_shared<State>(options)) {}
TlsContext::TlsContext(const TlsClientOptions& options) : state_(std::make_shared<State>(options)) {}

bool TlsContext::is_server() const noexcept {
    return state_->is_server();
}
void TlsContext::reload() {
    state_->reload();
}
void TlsContext::reload(const TlsServerOptions& options) {
    state_->reload(options);
}
void TlsContext::reload(const TlsClientOptions& options) {
    state_->reload(options);
}
void TlsContext::set_ticket_keys(std::vector<TicketKey> keys) {
    state_->set_ticket_keys(std::move(keys));
}

// ── setting up ──

TlsContext::State::State(TlsServerOptions options) {
    use(std::move(options));
}
TlsContext::State::State(TlsClientOptions options) {
    use(std::move(options));
}

void TlsContext::State::use(Options options) {
    const auto made = make_contexts(options);
    const std::lock_guard lock(mutex_);
    const auto note = [&](const auto& which) { handshake_timeout_ = which.handshake_timeout; };
    std::visit(note, options);
    if (const auto* const client = std::get_if<TlsClientOptions>(&options)) verifies_ = client->verify;
    options_ = std::move(options);
    contexts_ = made;
}

void TlsContext::State::reload() {
    Options options = [&] {
        const std::lock_guard lock(mutex_);
        return options_;
    }();
    use(std::move(options));
}
void TlsContext::State::reload(TlsServerOptions options) {
    if (!is_server()) throw std::invalid_argument("TlsContext::reload: the context is a client's");
    use(std::move(options));
}
void TlsContext::State::reload(TlsClientOptions options) {
    if (is_server()) throw std::invalid_argument("TlsContext::reload: the context is a server's");
    use(std::move(options));
}

std::shared_ptr<const TlsContext::State::Contexts> TlsContext::State::contexts() const {
    const std::lock_guard lock(mutex_);
    return contexts_;
}

std::shared_ptr<const TlsContext::State::Contexts> TlsContext::State::make_contexts(const Options& options) {
    auto made = std::make_shared<Contexts>();
    if (const auto* const client = std::get_if<TlsClientOptions>(&options)) {
        SslContextPointer context = make_context(false, client->least, client->most);
        SSL_CTX* const ctx = context.get();
        if (client->roots.empty() && client->verify && SSL_CTX_set_default_verify_paths(ctx) != 1)
            refused("the system's roots");
        use_roots(ctx, client->roots, client->revoked);
        if (client->certificate) use_certificate(ctx, *client->certificate);
        SSL_CTX_set_verify(ctx, client->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
        const std::string wire = wire_form(client->protocols);
        if (!wire.empty() && SSL_CTX_set_alpn_protos(ctx, reinterpret_cast<const unsigned char*>(wire.data()),
                                                     unsigned(wire.size())) != 0)
            refused("SSL_CTX_set_alpn_protos");
        if (client->resumable_hosts > 0) {
            SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
            SSL_CTX_sess_set_new_cb(ctx, &new_session);
        }
        made->all.push_back(std::move(context));
        return made;
    }
    const auto& server = std::get<TlsServerOptions>(options);
    if (server.certificates.empty()) throw std::invalid_argument("TlsContext: a server needs a certificate");
    if (server.client_certificates != ClientCertificates::ignored && server.client_roots.empty())
        throw std::invalid_argument("TlsContext: clients' certificates are asked for, and there are no client_roots");
    (void)wire_form(server.protocols);
    for (const TlsCertificate& certificate : server.certificates) {
        SslContextPointer context = make_context(true, server.least, server.most);
        SSL_CTX* const ctx = context.get();
        use_certificate(ctx, certificate);
        use_roots(ctx, server.client_roots, server.revoked);
        if (server.client_certificates != ClientCertificates::ignored) {
            for (const Pem& pem : server.client_roots)
                for (const X509Pointer& root : certificates_in(pem)) SSL_CTX_add_client_CA(ctx, root.get());
            const bool required = server.client_certificates == ClientCertificates::required;
            SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
        }
        // A session is in its ticket, and never kept here: memory has a bound.
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        static constexpr unsigned char application[] = "reactor";
        SSL_CTX_set_session_id_context(ctx, application, sizeof application - 1);
        SSL_CTX_set_num_tickets(ctx, server.tickets);
        if (server.tickets == 0) SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, &ticket_key);
        if (!server.protocols.empty()) SSL_CTX_set_alpn_select_cb(ctx, &choose_protocol, nullptr);
        if (server.certificates.size() > 1) SSL_CTX_set_tlsext_servername_callback(ctx, &choose_certificate);
        made->all.push_back(std::move(context));
    }
    return made;
}

// ── a connection's session ──

SslPointer TlsContext::State::make_ssl(const std::string& host) {
    const std::shared_ptr<const Contexts> current = contexts();
    SslPointer ssl(SSL_new(current->all.front().get()));
    if (ssl == nullptr) throw std::bad_alloc();
    if (is_server()) return ssl;
    if (!host.empty() && !set_host(ssl.get(), host)) refused("the host " + host);
    if (const SessionPointer session = take_session(host)) SSL_set_session(ssl.get(), session.get());
    return ssl;
}

}  // namespace reactor
