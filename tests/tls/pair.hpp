// Shared by the tests of TLS: an authority and contexts of both kinds, and a server and a client in memory.
#pragma once

#include "../support/loop.hpp"
#include "certificates.hpp"

#include <reactor/testing/memory_transport.hpp>
#include <reactor/tls/tls.hpp>
#include <reactor/tls/tls_error.hpp>
#include <reactor/tls/tls_info.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>

inline const Authority& authority() {
    static const Authority made;
    return made;
}

inline reactor::TlsCertificate certificate_of(const Issued& issued) {
    return {reactor::Pem::text(issued.certificate), reactor::Pem::text(issued.key)};
}

inline reactor::TlsServerOptions server_options() {
    static const Issued issued = authority().issue();
    reactor::TlsServerOptions options;
    options.certificates = {certificate_of(issued)};
    return options;
}

inline reactor::TlsClientOptions client_options() {
    reactor::TlsClientOptions options;
    options.roots = {reactor::Pem::text(authority().certificate())};
    return options;
}

/// The contexts for this version alone.
inline reactor::TlsContext server_context(reactor::TlsVersion only) {
    reactor::TlsServerOptions options = server_options();
    options.least = options.most = only;
    return reactor::TlsContext(options);
}

/// Both ends of a connection: the journals say what their protocols saw.
struct Pair {
    explicit Pair(const reactor::TlsContext& server_side = reactor::TlsContext(server_options()),
                  const reactor::TlsContext& client_side = reactor::TlsContext(client_options()),
                  const std::string& host = "localhost", const reactor::Limits& limits = {})
        : server(reactor::tls(server_side, std::make_unique<Recorder>(of_server)), limits),
          client(reactor::tls(client_side, host, std::make_unique<Recorder>(of_client)), limits) {}

    /// Carries what both have to say, until they are silent.
    Pair& run() {
        reactor::testing::converse(server, client);
        return *this;
    }

    Journal of_server, of_client;
    reactor::testing::MemoryTransport server;
    reactor::testing::MemoryTransport client;
};
