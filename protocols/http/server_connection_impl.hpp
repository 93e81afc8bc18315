// The state of a server's connection that most requests do not need.
#pragma once

#include <protocols/http/body.hpp>
#include <protocols/http/server_connection.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/timer.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace reactor::http {

struct ServerConnection::Work {
    using Receive = Callback<void(std::error_code, Bytes, bool)>;

    BodyDecoder content;
    std::unique_ptr<Receive> receive;
    bool paused = false;
    std::string fields;      // of the answer, each with its line end
    std::uint64_t left = 0;  // bytes that the answer still owes, if it has a length
    bool has_length = false;
    std::unique_ptr<Callback<void()>> writable;
    std::optional<Timer> head_timer;  // while a head is incomplete
    // For the log.
    bool logged = false;
    std::string method, target;
    int status = 0;
    std::uint64_t written = 0;
    TimePoint begin{};
};

}  // namespace reactor::http
