// AnswerStart: the first bytes of an answer, its status line and Date (RFC 9110, 6.6.1). They are the same for all the
// answers of a second that have one status, so they are made once for them.
#pragma once

#include <protocols/http/date_impl.hpp>
#include <protocols/http/status.hpp>
#include <reactor/clock.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <string_view>

namespace reactor::http {

class AnswerStart {
public:
    /// So many bytes are written, of which the first ones count: a copy of a constant size needs no call.
    static constexpr std::size_t room = 96;

    /// Writes "HTTP/1.1 200 OK", a line end, and "Date: …" without its line end. Returns where that ends. It asks the
    /// system's clock only when the loop's says that a second may be over.
    char* write(char* to, int status, TimePoint now) noexcept {
        if (status != status_ || now >= valid_until_ || now < made_) renew(status, now);
        std::memcpy(to, text_.data(), room);
        return to + size_;
    }

private:
    void renew(int status, TimePoint now) noexcept {
        using namespace std::chrono;
        if (now >= valid_until_ || now < made_) {
            const auto time = system_clock::now().time_since_epoch();
            const auto whole = floor<seconds>(time);
            date_ = date_text(static_cast<std::time_t>(whole.count()));
            made_ = now;
            valid_until_ = now + duration_cast<Duration>(whole + seconds(1) - time);
        }
        status_ = status;
        char* at = text_.data();
        const auto put = [&at](std::string_view text) noexcept { at = std::copy(text.begin(), text.end(), at); };
        put("HTTP/1.1 ");
        at = std::to_chars(at, at + 3, status).ptr;
        put(" ");
        put(reason_phrase(status));
        put("\r\nDate: ");
        put({date_.data(), date_.size() - 1});
        size_ = std::size_t(at - text_.data());
    }

    std::array<char, room> text_{};  // the longest phrase makes 81
    std::size_t size_ = 0;
    int status_ = 0;
    std::array<char, 30> date_{};
    TimePoint made_ = TimePoint::max();
    TimePoint valid_until_ = TimePoint::min();
};

}  // namespace reactor::http
