// OpenSSL's objects as owners, and its errors as error codes. Not installed.
#pragma once

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <system_error>

namespace reactor {

template <auto Free>
struct FreeOpenssl {
    template <class T>
    void operator()(T* object) const noexcept {
        Free(object);
    }
};
using BioPointer = std::unique_ptr<BIO, FreeOpenssl<BIO_free>>;
using BioMethodPointer = std::unique_ptr<BIO_METHOD, FreeOpenssl<BIO_meth_free>>;
using SslPointer = std::unique_ptr<SSL, FreeOpenssl<SSL_free>>;
using SslContextPointer = std::unique_ptr<SSL_CTX, FreeOpenssl<SSL_CTX_free>>;
using SessionPointer = std::unique_ptr<SSL_SESSION, FreeOpenssl<SSL_SESSION_free>>;
using X509Pointer = std::unique_ptr<X509, FreeOpenssl<X509_free>>;
using X509CrlPointer = std::unique_ptr<X509_CRL, FreeOpenssl<X509_CRL_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, FreeOpenssl<EVP_PKEY_free>>;

/// The error of the call that has just failed, and takes all errors off this thread's queue: one that stays there would
/// be taken for an error of the next connection. Of several errors it is the last of TLS itself, or else the last.
std::error_code take_openssl_error() noexcept;

}  // namespace reactor
