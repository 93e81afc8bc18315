// The choices of a handshake: the certificate for a name, the application protocol; and resumption: a server's tickets
// and a client's sessions. OpenSSL calls these from inside a handshake.
#include <reactor/tls/tls_context_impl.hpp>

#include <reactor/clock.hpp>
#include <reactor/tls/tls_transport_impl.hpp>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

namespace reactor {

namespace {

// How long a key of the context's own encrypts, and how long it is accepted afterwards.
constexpr Duration key_lifetime = std::chrono::hours(12);

}  // namespace

// ── the certificate and the protocol ──

SSL_CTX* TlsContext::State::Contexts::for_name(const char* name) const noexcept {
    for (const SslContextPointer& context : all) {
        X509* const certificate = SSL_CTX_get0_certificate(context.get());
        constexpr unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
        if (X509_check_host(certificate, name, 0, flags, nullptr) == 1) return context.get();
    }
    return nullptr;
}

// SNI. A name that no certificate is for gets the first: the client decides (RFC 6066 3).
int TlsContext::State::choose_certificate(SSL* ssl, int*, void*) {
    const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) return SSL_TLSEXT_ERR_NOACK;
    const auto current = TlsTransport::of(ssl)->context()->contexts();
    SSL_CTX* const context = current->for_name(name);
    if (context == nullptr) return SSL_TLSEXT_ERR_NOACK;
    return SSL_set_SSL_CTX(ssl, context) == nullptr ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_OK;
}

// ALPN: the server's order decides. Without a common protocol there is no connection (RFC 7301 3.2).
int TlsContext::State::choose_protocol(SSL* ssl, const unsigned char** chosen, unsigned char* size,
                                       const unsigned char* offered, unsigned offered_size, void*) {
    const std::string_view all(reinterpret_cast<const char*>(offered), offered_size);
    const std::shared_ptr<State>& state = TlsTransport::of(ssl)->context();
    const std::lock_guard lock(state->mutex_);
    for (const std::string& wanted : std::get<TlsServerOptions>(state->options_).protocols) {
        for (std::size_t at = 0; at < all.size(); at += 1 + std::size_t(static_cast<unsigned char>(all[at]))) {
            const std::size_t length = static_cast<unsigned char>(all[at]);
            if (all.substr(at + 1, length) != wanted) continue;
            *chosen = offered + at + 1;
            *size = static_cast<unsigned char>(length);
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

// ── a server's tickets ──

TicketKey TicketKey::random() {
    TicketKey key;
    const auto fill = [](auto& bytes) {
        if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), int(bytes.size())) != 1)
            throw std::system_error(take_openssl_error(), "TicketKey::random");
    };
    fill(key.name);
    fill(key.cipher);
    fill(key.signature);
    return key;
}

void TlsContext::State::set_ticket_keys(std::vector<TicketKey> keys) {
    if (keys.empty()) throw std::invalid_argument("TlsContext::set_ticket_keys: there is none");
    const std::lock_guard lock(mutex_);
    keys_ = std::move(keys);
    own_keys_ = false;
}

// With the lock held. A handshake is the only occasion: a server that is idle needs no key.
void TlsContext::State::rotate(TimePoint now) {
    if (!own_keys_ || (!keys_.empty() && time_between(first_key_since_, now) < key_lifetime)) return;
    const bool last_is_young = !keys_.empty() && time_between(first_key_since_, now) < 2 * key_lifetime;
    keys_.resize(last_is_young ? 1 : 0);
    keys_.insert(keys_.begin(), TicketKey::random());
    first_key_since_ = now;
}

TicketKey TlsContext::State::key_to_encrypt() {
    const std::lock_guard lock(mutex_);
    rotate(Clock::monotonic().now());
    return keys_.front();
}

std::optional<TicketKey> TlsContext::State::key_named(const unsigned char* name, bool& is_first) {
    const std::lock_guard lock(mutex_);
    rotate(Clock::monotonic().now());
    for (const TicketKey& key : keys_) {
        if (std::memcmp(key.name.data(), name, key.name.size()) != 0) continue;
        is_first = &key == &keys_.front();
        return key;
    }
    return std::nullopt;
}

// SSL_CTX_set_tlsext_ticket_key_evp_cb(3). 0: the ticket is not ours, and the handshake a full one. 2: it is good, and
// the client gets a new one. A session of TLS 1.3 is used once, and a resumed one comes with no new ticket unless this
// is 2.
int TlsContext::State::ticket_key(SSL* ssl, unsigned char* name, unsigned char* vector, EVP_CIPHER_CTX* cipher,
                                  EVP_MAC_CTX* signature, int encrypt) try {
    State& state = *TlsTransport::of(ssl)->context();
    std::optional<TicketKey> key;
    bool is_first = true;
    if (encrypt == 1) {
        key = state.key_to_encrypt();
        std::memcpy(name, key->name.data(), key->name.size());
        if (RAND_bytes(vector, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) return -1;
    } else {
        key = state.key_named(name, is_first);
        if (!key) return 0;
    }
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->signature.data(), key->signature.size()),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    const auto* const secret = reinterpret_cast<const unsigned char*>(key->cipher.data());
    const auto begin = encrypt == 1 ? &EVP_EncryptInit_ex : &EVP_DecryptInit_ex;
    if (EVP_MAC_CTX_set_params(signature, parameters) != 1 ||
        begin(cipher, EVP_aes_256_cbc(), nullptr, secret, vector) != 1)
        return -1;
    const bool renews = encrypt != 1 && (!is_first || SSL_version(ssl) == TLS1_3_VERSION);
    return renews ? 2 : 1;
} catch (const std::exception&) {
    return -1;
}

// ── a client's sessions ──

// A TLS 1.3 session is used once, so that nothing links two connections (RFC 8446 C.4).
SessionPointer TlsContext::State::take_session(const std::string& host) noexcept {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_by_host_.find(host);
    if (found == sessions_by_host_.end()) return nullptr;
    SSL_SESSION* const session = found->second->session.get();
    if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION) {
        SSL_SESSION_up_ref(session);
        return SessionPointer(session);
    }
    SessionPointer result = std::move(found->second->session);
    sessions_.erase(found->second);
    sessions_by_host_.erase(found);
    return result;
}

void TlsContext::State::keep_session(const std::string& host, SessionPointer session) {
    const std::lock_guard lock(mutex_);
    const auto* const client = std::get_if<TlsClientOptions>(&options_);
    if (client == nullptr || client->resumable_hosts == 0) return;
    const auto [place, is_new] = sessions_by_host_.try_emplace(host);
    if (!is_new) sessions_.erase(place->second);
    try {
        sessions_.push_front({host, std::move(session)});
    } catch (...) {
        sessions_by_host_.erase(place);
        throw;
    }
    place->second = sessions_.begin();
    while (sessions_.size() > client->resumable_hosts) {
        sessions_by_host_.erase(sessions_.back().host);
        sessions_.pop_back();
    }
}

// 1: the reference is ours now.
int TlsContext::State::new_session(SSL* ssl, SSL_SESSION* session) {
    const TlsTransport& transport = *TlsTransport::of(ssl);
    if (SSL_SESSION_is_resumable(session) != 1) return 0;
    SSL_SESSION_up_ref(session);
    try {
        transport.context()->keep_session(transport.host(), SessionPointer(session));
    } catch (const std::bad_alloc&) {  // then the next handshake is a full one
    }
    return 0;
}

}  // namespace reactor
