// Pem: certificates, keys or revocation lists as PEM text (RFC 7468), in a file or in memory. TlsContext reads them.
#pragma once

#include <reactor/export.hpp>

#include <string>
#include <utility>

namespace reactor {

/// Where PEM text is. Nothing is read before a TlsContext is made of it.
class Pem {
public:
    /// The text in a file. It is read again each time that a TlsContext is made or reloaded with it.
    static Pem file(std::string path) { return {std::move(path), true}; }
    /// The text itself. Errors call it "memory".
    static Pem text(std::string content) { return {std::move(content), false}; }

    bool is_file() const noexcept { return is_file_; }
    /// The path of a file, or the text.
    const std::string& value() const noexcept { return value_; }
    /// How an error names it: the path, or "memory".
    std::string name() const { return is_file_ ? value_ : "memory"; }

private:
    Pem(std::string value, bool is_file) : value_(std::move(value)), is_file_(is_file) {}

    std::string value_;
    bool is_file_;
};

/// A certificate and its private key.
struct TlsCertificate {
    Pem chain;  ///< the certificate first, then those that signed it, without the root
    Pem key;    ///< not encrypted by a password
};

}  // namespace reactor
