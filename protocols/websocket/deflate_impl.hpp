// permessage-deflate (RFC 7692): its negotiation, and messages that become smaller by zlib. No message needs an earlier
// one (no_context_takeover, both ways), so a connection keeps no memory for it: the two states of zlib belong to the
// thread.
#pragma once

#include <protocols/http/field.hpp>
#include <reactor/bytes.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace reactor::websocket::deflate {

/// Is zlib there?
extern const bool available;

/// A server's decision about the offers in a request.
struct Agreement {
    bool malformed = false;                    // the handshake must be refused (RFC 6455, 9.1)
    std::optional<std::string> response = {};  // the value of Sec-WebSocket-Extensions; nullopt: none is accepted
};
Agreement agree(const http::Fields& fields);

/// A client's offer, and whether a server's answer to it is one that this client can keep to. `agreed` says if there is
/// compression.
inline constexpr std::string_view offer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
bool is_answer(const http::Fields& fields, bool& agreed);

/// The compressed form of a message (RFC 7692, 7.2.1), valid until the next call on this thread. Empty if it would not
/// be smaller.
Bytes compressed(Bytes message);

/// The outcome of decompress.
enum class Outcome { whole, too_long, malformed };
/// The message of this payload (RFC 7692, 7.2.2), unless it is longer than `most` bytes.
Outcome decompress(std::vector<std::byte> payload, std::size_t most, std::vector<std::byte>& message);

}  // namespace reactor::websocket::deflate
