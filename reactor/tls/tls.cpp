#include <reactor/tls/tls.hpp>

#include <reactor/stream/detail/stream_transport.hpp>
#include <reactor/tls/tls_transport_impl.hpp>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <new>
#include <stdexcept>

namespace reactor {

namespace {

void require_server(const TlsContext& context) {
    if (!context.is_server()) throw std::invalid_argument("tls: a client names the host that it wants to talk to");
}

void require_client(const TlsContext& context, const std::string& host) {
    if (context.is_server()) throw std::invalid_argument("tls: the context is a server's, and has no host to talk to");
    if (host.empty() && context.state()->verifies())
        throw std::invalid_argument("tls: without a host's name its certificate cannot be verified");
}

bool start(Transport& transport, const TlsContext& context, const std::string& host, MoveOnlyFunction<void()> secured) {
    auto* const carrier = dynamic_cast<StreamTransport*>(&transport);
    if (carrier == nullptr) throw std::logic_error("start_tls: this transport cannot begin it");
    return carrier->dress(
        std::make_unique<TlsTransport>(context.state(), host, transport.reactor(), std::move(secured)));
}

}  // namespace

std::unique_ptr<Protocol> tls(const TlsContext& context, std::unique_ptr<Protocol> protocol) {
    require_server(context);
    if (protocol == nullptr) return nullptr;
    return std::make_unique<TlsTransport>(context.state(), std::string(), std::move(protocol));
}

std::unique_ptr<Protocol> tls(const TlsContext& context, const std::string& host, std::unique_ptr<Protocol> protocol) {
    require_client(context, host);
    if (protocol == nullptr) return nullptr;
    return std::make_unique<TlsTransport>(context.state(), host, std::move(protocol));
}

bool start_tls(Transport& transport, const TlsContext& context, MoveOnlyFunction<void()> secured) {
    require_server(context);
    return start(transport, context, std::string(), std::move(secured));
}

bool start_tls(Transport& transport, const TlsContext& context, const std::string& host,
               MoveOnlyFunction<void()> secured) {
    require_client(context, host);
    return start(transport, context, host, std::move(secured));
}

namespace {

std::string pem_of(X509* certificate) {
    const BioPointer writer(BIO_new(BIO_s_mem()));
    if (writer == nullptr || PEM_write_bio_X509(writer.get(), certificate) != 1) throw std::bad_alloc();
    char* text = nullptr;
    const long size = BIO_get_mem_data(writer.get(), &text);
    return {text, std::size_t(size)};
}

std::string subject_of(X509* certificate) {
    const BioPointer writer(BIO_new(BIO_s_mem()));
    constexpr unsigned long form = XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB;
    if (writer == nullptr || X509_NAME_print_ex(writer.get(), X509_get_subject_name(certificate), 0, form) < 0)
        throw std::bad_alloc();
    char* text = nullptr;
    const long size = BIO_get_mem_data(writer.get(), &text);
    return {text, std::size_t(size)};
}

}  // namespace

TlsInfo TlsTransport::info() const {
    TlsInfo info;
    SSL* const ssl = ssl_.get();
    if (ssl == nullptr) return info;
    info.version = SSL_get_version(ssl);
    if (const char* const cipher = SSL_get_cipher_name(ssl)) info.cipher = cipher;
    const unsigned char* protocol = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl, &protocol, &size);
    info.protocol.assign(reinterpret_cast<const char*>(protocol), size);
    if (const char* const name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) info.server_name = name;
    info.resumed = SSL_session_reused(ssl) == 1;
    X509* const certificate = SSL_get0_peer_certificate(ssl);
    if (certificate == nullptr) return info;
    info.peer_certificate = pem_of(certificate);
    info.peer_subject = subject_of(certificate);
    info.peer_verified = SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE && SSL_get_verify_result(ssl) == X509_V_OK;
    // A client's list begins with the certificate itself, and a server's does not (SSL_get_peer_cert_chain(3)).
    STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl);
    for (int i = SSL_is_server(ssl) ? 0 : 1; chain != nullptr && i < sk_X509_num(chain); ++i)
        info.peer_certificate += pem_of(sk_X509_value(chain, i));
    return info;
}

std::optional<TlsInfo> tls_info(const Transport& transport) {
    const auto* const one = dynamic_cast<const TlsTransport*>(&transport);
    if (one == nullptr) return std::nullopt;
    return one->info();
}

}  // namespace reactor
