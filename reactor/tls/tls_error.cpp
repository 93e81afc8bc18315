#include <reactor/tls/tls_error.hpp>

#include <reactor/tls/openssl_impl.hpp>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <string>

namespace reactor {

namespace {

constexpr int alert_reasons = 1000;  // SSL_R_… of a received alert: its number, and this (ssl.h)

}  // namespace

const std::error_category& tls_category() noexcept {
    struct Category final : std::error_category {
        const char* name() const noexcept override { return "tls"; }
        std::string message(int value) const override {
            const auto code = static_cast<unsigned long>(static_cast<unsigned>(value));
            const int reason = ERR_GET_REASON(code);
            if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason >= alert_reasons && reason < alert_reasons + 256)
                return std::string("the peer's alert: ") + SSL_alert_desc_string_long(reason - alert_reasons);
            if (const char* const text = ERR_reason_error_string(code)) return text;
            return "unknown error " + std::to_string(value);
        }
    };
    static const Category category;
    return category;
}

const std::error_category& certificate_category() noexcept {
    struct Category final : std::error_category {
        const char* name() const noexcept override { return "certificate"; }
        std::string message(int value) const override { return X509_verify_cert_error_string(value); }
    };
    static const Category category;
    return category;
}

std::error_code take_openssl_error() noexcept {
    // The first of the SSL library's own says why. Behind it OpenSSL from 3.2 on puts "record layer failure", for
    // example.
    unsigned long chosen = 0;
    while (const unsigned long code = ERR_get_error())
        if (ERR_GET_LIB(chosen) != ERR_LIB_SSL) chosen = code;
    if (ERR_GET_LIB(chosen) != ERR_LIB_SSL && ERR_GET_REASON(chosen) == ERR_R_MALLOC_FAILURE)
        return std::make_error_code(std::errc::not_enough_memory);
    if (chosen == 0) chosen = ERR_PACK(ERR_LIB_SSL, 0, SSL_R_UNINITIALIZED);
    return {int(chosen), tls_category()};
}

}  // namespace reactor
