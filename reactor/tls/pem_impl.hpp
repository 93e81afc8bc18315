// Reading PEM texts. Each call throws std::system_error that names the file and says what is wrong with it. Not
// installed.
#pragma once

#include <reactor/tls/openssl_impl.hpp>
#include <reactor/tls/pem.hpp>

#include <vector>

namespace reactor {

/// At least one.
std::vector<X509Pointer> certificates_in(const Pem& pem);
std::vector<X509CrlPointer> revocation_lists_in(const Pem& pem);
KeyPointer key_in(const Pem& pem);

}  // namespace reactor
