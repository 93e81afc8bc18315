// The --tls options of the programs. Without libreactor-tls there are none, and nothing is encrypted. Not installed.
#pragma once

#include <reactor/stream/protocol.hpp>
#ifdef REACTOR_TLS
#include <reactor/tls/tls.hpp>
#endif

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace program {

/// Puts a protocol into TLS; empty if there is no TLS.
using Dress = std::function<std::unique_ptr<reactor::Protocol>(std::unique_ptr<reactor::Protocol>)>;

struct TlsSettings {
    bool on = false;  // of a client; a server with a certificate is on
    std::string certificate, key, roots, revoked, host;
    std::vector<std::string> protocols;
    bool unverified = false;
};

/// --tls-certificate, --tls-key, --tls-ca and --tls-alpn of a server.
inline void add_tls_server([[maybe_unused]] CLI::App& arguments, [[maybe_unused]] TlsSettings& settings) {
#ifdef REACTOR_TLS
    CLI::Option* const certificate =
        arguments.add_option("--tls-certificate", settings.certificate, "PEM file: speak TLS with this certificate");
    arguments.add_option("--tls-key", settings.key, "PEM file with its key")->needs(certificate);
    certificate->needs("--tls-key");
    arguments
        .add_option("--tls-ca", settings.roots, "PEM file: clients need a certificate that one of these has signed")
        ->needs(certificate);
    arguments.add_option("--tls-alpn", settings.protocols, "application protocols, the preferred one first")
        ->default_str("")  // of an empty list CLI11 2.4 says {}
        ->delimiter(',')
        ->needs(certificate);
#endif
}

/// The files of a client, and --tls-no-verify; each needs `on`, unless that is null.
inline void add_tls_files([[maybe_unused]] CLI::App& arguments, [[maybe_unused]] TlsSettings& settings,
                          [[maybe_unused]] const std::string& prefix, [[maybe_unused]] CLI::Option* on) {
#ifdef REACTOR_TLS
    const auto needing = [on](CLI::Option* option) { return on == nullptr ? option : option->needs(on); };
    needing(arguments.add_option(prefix + "-ca", settings.roots,
                                 "PEM file with the authorities to trust; empty: the system's"));
    needing(arguments.add_option(prefix + "-crl", settings.revoked, "PEM file with a list of revoked certificates"));
    CLI::Option* const certificate = needing(
        arguments.add_option(prefix + "-certificate", settings.certificate, "PEM file with a certificate of its own"));
    CLI::Option* const key = needing(arguments.add_option(prefix + "-key", settings.key, "PEM file with its key"));
    certificate->needs(key);
    key->needs(certificate);
    needing(arguments.add_flag(prefix + "-no-verify", settings.unverified,
                               "accept any certificate, so that anybody may answer"));
#endif
}

/// --tls and its like of a client; `prefix` is "--tls", or "--to-tls" where that is the other side's.
inline void add_tls_client([[maybe_unused]] CLI::App& arguments, [[maybe_unused]] TlsSettings& settings,
                           [[maybe_unused]] const std::string& prefix = "--tls") {
#ifdef REACTOR_TLS
    CLI::Option* const on = arguments.add_flag(prefix, settings.on, "speak TLS");
    add_tls_files(arguments, settings, prefix, on);
    arguments
        .add_option(prefix + "-name", settings.host, "the name that the certificate must be for; empty: the host's")
        ->needs(on);
    arguments.add_option(prefix + "-alpn", settings.protocols, "application protocols, the preferred one first")
        ->delimiter(',')
        ->needs(on);
#endif
}

/// Those of a client whose URLs say if TLS is spoken, and with whom.
inline void add_tls_of_urls(CLI::App& arguments, TlsSettings& settings) {
    add_tls_files(arguments, settings, "--tls", nullptr);
}

inline Dress tls_of_server([[maybe_unused]] const TlsSettings& settings) {
#ifdef REACTOR_TLS
    using namespace reactor;
    if (settings.certificate.empty()) return nullptr;
    TlsServerOptions options;
    options.certificates = {{Pem::file(settings.certificate), Pem::file(settings.key)}};
    options.protocols = settings.protocols;
    if (!settings.roots.empty()) {
        options.client_certificates = ClientCertificates::required;
        options.client_roots = {Pem::file(settings.roots)};
    }
    return [context = TlsContext(options)](std::unique_ptr<Protocol> protocol) {
        return tls(context, std::move(protocol));
    };
#else
    return nullptr;
#endif
}

#ifdef REACTOR_TLS
inline reactor::TlsClientOptions tls_client_options(const TlsSettings& settings) {
    using namespace reactor;
    TlsClientOptions options;
    if (!settings.roots.empty()) options.roots = {Pem::file(settings.roots)};
    if (!settings.revoked.empty()) options.revoked = {Pem::file(settings.revoked)};
    if (!settings.certificate.empty()) options.certificate = {Pem::file(settings.certificate), Pem::file(settings.key)};
    options.protocols = settings.protocols;
    options.verify = !settings.unverified;
    return options;
}
#endif

/// `host` is where the client connects to.
inline Dress tls_of_client([[maybe_unused]] const TlsSettings& settings, [[maybe_unused]] const std::string& host) {
#ifdef REACTOR_TLS
    using namespace reactor;
    if (!settings.on) return nullptr;
    const std::string name = settings.host.empty() && !host.starts_with("unix:") ? host : settings.host;
    if (name.empty() && !settings.unverified)
        throw std::invalid_argument("TLS needs the name that the certificate must be for");
    return [context = TlsContext(tls_client_options(settings)), name](std::unique_ptr<Protocol> protocol) {
        return tls(context, name, std::move(protocol));
    };
#else
    return nullptr;
#endif
}

/// The factory of the same protocols, dressed.
inline reactor::ProtocolFactory dressed(Dress dress, reactor::ProtocolFactory factory) {
    if (!dress) return factory;
    return [dress = std::move(dress), factory = std::move(factory)]() mutable { return dress(factory()); };
}

}  // namespace program
