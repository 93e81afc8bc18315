// Certificates for tests, made as they are needed: an authority signs those for names, expired and revoked ones too.
#pragma once

#include <chrono>
#include <string>
#include <vector>

/// PEM texts.
struct Issued {
    std::string certificate;
    std::string key;
};

struct Wanted {
    std::string name = "localhost";  ///< its subject, and the first of its names
    std::vector<std::string> further_names;
    std::chrono::hours from{-1};  ///< counted from now
    std::chrono::hours until{24};
    long serial = 1;
};

/// An authority with a key of its own, P-256 as all keys here.
class Authority {
public:
    explicit Authority(const std::string& name = "Tests");
    ~Authority();
    Authority(const Authority&) = delete;
    Authority& operator=(const Authority&) = delete;

    const std::string& certificate() const { return certificate_; }
    Issued issue(const Wanted& wanted = {}) const;
    /// A list of the certificates with these serial numbers, as PEM.
    std::string revoke(const std::vector<long>& serials) const;

private:
    struct Parts;
    Parts* parts_;
    std::string certificate_;
};
