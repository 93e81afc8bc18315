// A peer made of OpenSSL alone, on memory BIOs: it can do what a protocol over our transport cannot ask for.
#pragma once

#include "pair.hpp"

#include <reactor/tls/openssl_impl.hpp>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <string>
#include <string_view>

class RawPeer {
public:
    RawPeer(bool server, reactor::TlsVersion version) : ssl_(SSL_new(context_for(server, version))) {
        SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        BIO_set_mem_eof_return(SSL_get_rbio(ssl_.get()), -1);
        server ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
    }

    SSL* ssl() { return ssl_.get(); }

    /// It gets these, and does what it can do with them.
    void feed(std::string_view sealed) {
        BIO_write(SSL_get_rbio(ssl_.get()), sealed.data(), int(sealed.size()));
        step();
    }
    void step() {
        if (!SSL_is_init_finished(ssl_.get())) SSL_do_handshake(ssl_.get());
        char piece[4096];
        while (SSL_is_init_finished(ssl_.get())) {
            const int count = SSL_read(ssl_.get(), piece, sizeof piece);
            if (count <= 0) break;
            received.append(piece, std::size_t(count));
        }
        ERR_clear_error();
    }
    void write(std::string_view plain) { REQUIRE(SSL_write(ssl_.get(), plain.data(), int(plain.size())) > 0); }
    bool ended() const { return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0; }

    std::string take() {
        std::string result(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())), '\0');
        if (!result.empty()) BIO_read(SSL_get_wbio(ssl_.get()), result.data(), int(result.size()));
        return result;
    }

    std::string received;

private:
    // Made once: that takes longer than a handshake.
    static SSL_CTX* context_for(bool server, reactor::TlsVersion version) {
        static reactor::SslContextPointer made[2][2];
        reactor::SslContextPointer& context = made[server ? 1 : 0][version == reactor::TlsVersion::tls_1_2 ? 0 : 1];
        if (context != nullptr) return context.get();
        context.reset(SSL_CTX_new(TLS_method()));
        const int number = version == reactor::TlsVersion::tls_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
        SSL_CTX_set_min_proto_version(context.get(), number);
        SSL_CTX_set_max_proto_version(context.get(), number);
        SSL_CTX_set_num_tickets(context.get(), 1);
        if (server) use(context.get(), authority().issue());
        return context.get();
    }

    static void use(SSL_CTX* context, const Issued& issued) {
        const auto reader = [](const std::string& text) {
            return reactor::BioPointer(BIO_new_mem_buf(text.data(), int(text.size())));
        };
        const reactor::X509Pointer certificate(
            PEM_read_bio_X509(reader(issued.certificate).get(), nullptr, nullptr, nullptr));
        const reactor::KeyPointer key(PEM_read_bio_PrivateKey(reader(issued.key).get(), nullptr, nullptr, nullptr));
        REQUIRE(SSL_CTX_use_certificate(context, certificate.get()) == 1);
        REQUIRE(SSL_CTX_use_PrivateKey(context, key.get()) == 1);
    }

    reactor::SslPointer ssl_;
};
