// The errors of TLS connections beside those of reactor/error.hpp.
#pragma once

#include <reactor/export.hpp>

#include <system_error>

namespace reactor {

/// The category named "tls": a record, a handshake or an alert was refused, or the peer sent an alert. The value is
/// OpenSSL's packed error code (ERR_get_error(3)), and `message` says it in words.
REACTOR_EXPORT const std::error_category& tls_category() noexcept;

/// The category named "certificate": the peer's certificate was refused, because it has expired, is signed by an
/// unknown authority, is for another host, or is revoked. The value is OpenSSL's X509_V_ERR_… number
/// (X509_STORE_CTX_get_error(3)), and `message` says it in words.
REACTOR_EXPORT const std::error_category& certificate_category() noexcept;

}  // namespace reactor
