// tls_info: the results of a handshake.
#pragma once

#include <reactor/export.hpp>
#include <reactor/stream/transport.hpp>

#include <optional>
#include <string>
#include <vector>

namespace reactor {

/// The agreement of one connection's two ends.
struct TlsInfo {
    std::string version;      ///< "TLSv1.3"
    std::string cipher;       ///< "TLS_AES_256_GCM_SHA384"
    std::string protocol;     ///< of ALPN; empty if none was agreed on
    std::string server_name;  ///< of SNI; empty if the client sent none
    bool resumed = false;
    /// The peer's certificate as PEM text, and after it those that it sent to have it trusted. Empty if it sent none. A
    /// server that resumes a session has the first one only.
    std::string peer_certificate;
    std::string peer_subject;  ///< of that certificate: "CN = example.com", as RFC 2253 writes it
    bool peer_verified = false;
};

/// Of a protocol's transport that speaks TLS, from its `connected` on; nullopt of any other transport. A function, and
/// not one of Transport's, so that a transport need not know TLS. Thread: the loop's. Throws std::bad_alloc.
REACTOR_EXPORT std::optional<TlsInfo> tls_info(const Transport& transport);

}  // namespace reactor
