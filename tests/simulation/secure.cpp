#define OPENSSL_SUPPRESS_DEPRECATED  // a provider of random numbers would take ten times as much code as RAND_METHOD
#include "secure.hpp"

#include "../tls/certificates.hpp"

#include <reactor/tls/tls.hpp>

#include <openssl/rand.h>

#include <cstddef>
#include <random>
#include <utility>

namespace simulation {

namespace {

using namespace reactor;

std::mt19937_64 numbers;

int random_bytes(unsigned char* into, int size) {
    for (int i = 0; i < size; ++i) into[i] = static_cast<unsigned char>(numbers());
    return 1;
}
int random_status() {
    return 1;
}

const RAND_METHOD method{nullptr, &random_bytes, nullptr, nullptr, &random_bytes, &random_status};

void begin_random_numbers(std::uint64_t seed) {
    RAND_set_rand_method(&method);
    numbers.seed(seed);
}

// The same in every run of this program, but for the time.
struct Files {
    Authority authority;
    Issued issued = authority.issue();
};
const Files& files() {
    static const Files made = [] {
        begin_random_numbers(0);
        return Files();
    }();
    return made;
}

}  // namespace

struct Secure::Contexts {
    TlsContext server, client;
};

Secure::Secure(std::uint64_t seed, bool patient) {
    TlsServerOptions server;
    server.certificates = {{Pem::text(files().issued.certificate), Pem::text(files().issued.key)}};
    TlsClientOptions client;
    client.roots = {Pem::text(files().authority.certificate())};
    if (seed % 3 == 0) server.most = TlsVersion::tls_1_2;
    if (patient) server.handshake_timeout = client.handshake_timeout = Duration::zero();
    begin_random_numbers(seed);
    contexts_ = std::make_unique<Contexts>(Contexts{TlsContext(server), TlsContext(client)});
}

Secure::~Secure() = default;

std::unique_ptr<Protocol> Secure::dress(std::unique_ptr<Protocol> protocol, bool client) const {
    return client ? tls(contexts_->client, "localhost", std::move(protocol))
                  : tls(contexts_->server, std::move(protocol));
}

bool Secure::available() noexcept {
    return true;
}

}  // namespace simulation
