#!/bin/bash
# After a handshake that has failed, OpenSSL's SSL_want says that it waits for bytes to read.
#
# Expected: a program that drives SSL_do_handshake by itself asks SSL_want what is missing: SSL_READING while more bytes
#   are needed, and SSL_NOTHING when the handshake is done or has failed. SSL_want(3): "SSL_NOTHING: There is no data to
#   be written or to be read."
# Happens: for a client that speaks no TLS, and for one that speaks no version in common, SSL_want is SSL_READING after
#   the failure. SSL_get_error says SSL_ERROR_SSL, from the error queue. A loop that goes by SSL_want waits for ever
#   for a peer that has had its alert.
# Who meets it: event loops on memory BIOs that avoid SSL_get_error, since an error that other code has left in the
#   thread's queue makes it report a failure that is none.
# Seen with: libssl3 3.0.20-1~deb12u2, Linux 6.18.
# Sources: SSL_want(3), SSL_get_error(3).
set -euo pipefail
source "$(dirname "$0")/packages.sh"

packages libssl-dev=3.0.20-1~deb12u2 libssl3=3.0.20-1~deb12u2

cat >"$folder/want.c" <<'C'
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

static const char* name_of(int want) {
    return want == SSL_READING ? "SSL_READING" : want == SSL_NOTHING ? "SSL_NOTHING" : "another";
}

static void feed(SSL_CTX* context, const char* what, const char* bytes, size_t size) {
    SSL* ssl = SSL_new(context);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl);
    BIO_write(SSL_get_rbio(ssl), bytes, (int)size);
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl);
    const int want = SSL_want(ssl);
    printf("%s: SSL_want %s, SSL_get_error %s\n", what, name_of(want),
           SSL_get_error(ssl, result) == SSL_ERROR_SSL ? "SSL_ERROR_SSL" : "SSL_ERROR_WANT_READ");
    SSL_free(ssl);
}

int main(void) {
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    static const char half[] = {22, 3, 1, 2, 0, 1, 0};
    feed(context, "half of a hello", half, sizeof half);
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";
    feed(context, "a request of HTTP", request, strlen(request));
    return 0;
}
C
build want -I"$include" -I"$include/$triplet" -L"$libraries" -lssl -lcrypto -Wl,-rpath,"$libraries"
versions
bounded "$folder/want"
verdict <<'END'
half of a hello: SSL_want SSL_READING, SSL_get_error SSL_ERROR_WANT_READ
a request of HTTP: SSL_want SSL_READING, SSL_get_error SSL_ERROR_SSL
END
