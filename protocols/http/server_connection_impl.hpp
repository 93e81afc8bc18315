// The state of a server's connection that most requests do not need.
#pragma once

#include <protocols/http/body.hpp>
#include <protocols/http/scan_impl.hpp>
#include <protocols/http/server_connection.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/timer.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace reactor::http {

[[noreturn]] REACTOR_INTERNAL void throw_impossible(int status);
[[noreturn]] REACTOR_INTERNAL void throw_begun();

inline bool is_final(int status) noexcept {
    return status >= 200 && status <= 599;
}

/// Throws std::invalid_argument for arguments that no answer can begin with.
inline void require_possible(int status, std::string_view type) {
    if (!is_final(status) || !scan::all_in_value(type)) [[unlikely]]
        throw_impossible(status);
}

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

/// The answer is complete.
inline void ServerConnection::finish() {
    let_go();
    unset(answering);
    if (work_ != nullptr) finish_work();
    if (!is(keep_alive)) {
        set(ending);
        return is(last_input) ? transport().close_without_waiting() : transport().close();
    }
    release();
}

}  // namespace reactor::http
