// Streams of WebSocket frames of every kind that RFC 6455 decides, each with the clause and with its meaning. Most are
// made from rules, so that each combination of the fields of a frame is there.
#pragma once

#include <string>
#include <vector>

namespace websocket_cases {

/// `outcome` has one item for each event, with a space behind: `text:…`, `binary:…` for a whole message (by its content
/// if it is short, otherwise by its length), `ping:…`, `pong:…`, `close:code:reason`, `!code:why` for a refusal, and
/// `…` at the end if a frame or a message is incomplete. `input` is what a client sends; a server's frames are the same
/// without masks.
struct Case {
    std::string clause;
    std::string input;
    std::string outcome;
};

/// For the frames of a client, which are masked, or of a server, which are not.
std::vector<Case> all(bool masked);

}  // namespace websocket_cases
