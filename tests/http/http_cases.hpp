// Messages of HTTP/1.1 of every kind that RFC 9110 and RFC 9112 decide, each with the clause and with its meaning. One
// table for every reader of them: the parsers here, and a server in memory.
#pragma once

#include <span>
#include <string_view>

namespace http_cases {

/// `outcome` is one item for each message of the stream, with spaces between them:
///
///     GET:/path?query@host    a request: method, target and host
///     200:OK                  a response: status and reason
///     +content                its content, when all of it is there
///     -close, -old, -expects, -upgrade=NAME, -fields=N
///                             its other properties: the connection ends, HTTP/1.0, Expect, Upgrade, how many fields
///     …                       the input ends inside a message
///     !reason                 refused
struct Case {
    std::string_view clause;
    std::string_view input;
    std::string_view outcome;
};

std::span<const Case> requests();
std::span<const Case> responses();

}  // namespace http_cases
