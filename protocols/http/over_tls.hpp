// over_tls: https for a client. It is a header alone, for programs that use libreactor-tls as well; libreactor-http
// does not depend on that.
//
//     http::Client client{reactor, {.secure = http::over_tls(TlsContext(TlsClientOptions{}))}};
#pragma once

#include <protocols/http/client.hpp>
#include <reactor/tls/tls.hpp>

#include <memory>
#include <string>
#include <utility>

namespace reactor::http {

/// For ClientOptions::secure: connections are made with `context`, which is a client's, and the server's certificate
/// must be for the host of the URL. If the context offers protocols by ALPN, "http/1.1" must be the one that is chosen.
inline Secure over_tls(TlsContext context) {
    return [context = std::move(context)](const std::string& host, std::unique_ptr<Protocol> inside) {
        return tls(context, host, std::move(inside));
    };
}

}  // namespace reactor::http
