// tls: a protocol runs over TLS. The same class runs over TCP, Unix sockets, pipes and the memory of a test; here its
// bytes are encrypted on the way, and it never asks what carries them.
//
//     TlsContext context(TlsServerOptions{.certificates = {{Pem::file("chain.pem"), Pem::file("key.pem")}}});
//     Acceptor acceptor(reactor, "", 443, tls(context, factory<Echo>()));
//
//     TlsContext trust{TlsClientOptions{}};
//     Connector connector(reactor, "example.com", 443, tls(trust, "example.com", factory<Ask>()));
#pragma once

#include <reactor/export.hpp>
#include <reactor/function.hpp>
#include <reactor/net/address.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/tls/tls_context.hpp>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace reactor {

/// The protocol of a connection that speaks TLS as a server, with `protocol` inside: for Connection::open,
/// PipeTransport::open or a MemoryTransport. Null if that is null.
///
/// `protocol` is called as over any transport. Its `connected` comes when the handshake is done. If the handshake
/// fails, `disconnected` with the reason is its only call. These differ:
/// - The stream ends where the peer says so (close_notify). An end of the connection before that is an error,
///   Error::truncated, and never `end_of_stream`.
/// - `close` and `shutdown_write` say close_notify first. Limits::close_timeout bounds it all.
/// - Watermarks and `queued` count plain bytes. The other limits and the rates are the carrier's, and count bytes as
///   they are sent. `received` is given whole records, of up to 16 KiB each, however small Limits::read_size is.
/// - A write inside a call of the protocol's is encrypted when the call returns: all of them in as few records as
///   possible. Another write is encrypted at once.
/// - `pass_on_to` does nothing.
///
/// Throws std::invalid_argument if `context` is a client's.
REACTOR_EXPORT std::unique_ptr<Protocol> tls(const TlsContext& context, std::unique_ptr<Protocol> protocol);

/// The same as a client of `host`, a name or an IP address, which the server's certificate must be for. Throws
/// std::invalid_argument if `context` is a server's, and for an empty host unless the context does not verify.
REACTOR_EXPORT std::unique_ptr<Protocol> tls(const TlsContext& context, const std::string& host,
                                             std::unique_ptr<Protocol> protocol);

/// The factory for an Acceptor: of such protocols, with those of `factory` inside. `factory` may take the peer's
/// address.
template <class Factory>
requires(!std::is_convertible_v<Factory, std::unique_ptr<Protocol>>) auto tls(TlsContext context, Factory factory) {
    if constexpr (std::is_invocable_v<Factory&, const Address&>) {
        return [context = std::move(context), factory = std::move(factory)](const Address& peer) mutable {
            return tls(context, std::unique_ptr<Protocol>(factory(peer)));
        };
    } else {
        return [context = std::move(context), factory = std::move(factory)]() mutable {
            return tls(context, std::unique_ptr<Protocol>(factory()));
        };
    }
}

/// The factory for a Connector to `host`.
template <class Factory>
requires(!std::is_convertible_v<Factory, std::unique_ptr<Protocol>>) auto tls(TlsContext context, std::string host,
                                                                              Factory factory) {
    return [context = std::move(context), host = std::move(host), factory = std::move(factory)]() mutable {
        return tls(context, host, std::unique_ptr<Protocol>(factory()));
    };
}

/// Turns a connection into TLS in mid-stream, as a server does after the line STARTTLS: its protocol calls this with
/// its own transport, in a call of its own or from outside.
///
/// Earlier writes leave in the clear; later ones are sent when the handshake is done. Input
/// that `received` leaves unconsumed in this call is the beginning of the handshake, so a protocol must stop behind the
/// message that asked for TLS. `reading` is false until the handshake is done: Framed and Stream stop by that.
/// The protocol's `transport` is another one from now on, so that earlier references to it must no longer be used.
/// Handles stay good. `secured`, if there is one, is called like a call of the protocol's when the handshake is done.
/// If it fails, `closing` and `disconnected` with the reason are the next calls. The differences of `tls` hold.
///
/// False, and nothing has changed, once the end has begun in either direction. Throws std::logic_error before
/// `connected`, over TLS, and for a transport that is no connection, PipeTransport or MemoryTransport;
/// std::invalid_argument if `context` is a client's; std::bad_alloc.
REACTOR_EXPORT bool start_tls(Transport& transport, const TlsContext& context,
                              MoveOnlyFunction<void()> secured = nullptr);

/// The same as a client of `host`, after the server has agreed. Throws also as `tls` does.
REACTOR_EXPORT bool start_tls(Transport& transport, const TlsContext& context, const std::string& host,
                              MoveOnlyFunction<void()> secured = nullptr);

}  // namespace reactor
