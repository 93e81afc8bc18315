// The common part of the TLS echo servers that are compared: the certificate and the number of tickets, which the
// script says by the environment, and the options that the library has as well.
#pragma once

#include <openssl/ssl.h>

#include <cstdio>
#include <cstdlib>

namespace bench {

inline const char* certificate_file() {
    const char* const file = std::getenv("BENCH_CERTIFICATE");
    if (file != nullptr) return file;
    std::fputs("BENCH_CERTIFICATE names no PEM file\n", stderr);
    std::exit(1);
}

inline unsigned tickets() {
    const char* const number = std::getenv("BENCH_TICKETS");
    return number == nullptr ? 1 : unsigned(std::atoi(number));
}

inline void set_up(SSL_CTX* context) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, tickets());
    const char* const file = certificate_file();
    if (SSL_CTX_use_certificate_chain_file(context, file) == 1 &&
        SSL_CTX_use_PrivateKey_file(context, file, SSL_FILETYPE_PEM) == 1)
        return;
    std::fprintf(stderr, "%s: no certificate and key\n", file);
    std::exit(1);
}

}  // namespace bench
