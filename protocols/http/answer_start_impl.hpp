// AnswerStart: the first bytes of an answer, its status line, Date (RFC 9110, 6.6.1) and Content-Type. They are the
// same for all the answers of a second that have one status and type, so they are made and checked once for them.
#pragma once

#include <protocols/http/date_impl.hpp>
#include <protocols/http/scan_impl.hpp>
#include <protocols/http/status.hpp>
#include <reactor/clock.hpp>

#include <array>
#include <chrono>
#include <ctime>
#include <stdexcept>
#include <string>
#include <string_view>

namespace reactor::http {

/// Throws std::invalid_argument for a type that is no field value.
inline void require_possible_type(std::string_view type) {
    if (!scan::all_in_value(type)) [[unlikely]]
        throw std::invalid_argument("http::Exchange: a control character in a content type");
}

class AnswerStart {
public:
    /// "HTTP/1.1 200 OK", a line end, "Date: …", and if there is a type, a line end and "Content-Type: …"; the last
    /// line without its end. It asks the system's clock only when the loop's says that a second may be over. Throws
    /// std::invalid_argument for a type with a control character, std::bad_alloc. Lifetime: up to the next call.
    std::string_view text(int status, std::string_view type, TimePoint now) {
        if (status != status_ || now >= valid_until_ || now < made_ || type != type_) renew(status, type, now);
        return text_;
    }

private:
    void renew(int status, std::string_view type, TimePoint now) {
        using namespace std::chrono;
        require_possible_type(type);
        if (now >= valid_until_ || now < made_) {
            const auto time = system_clock::now().time_since_epoch();
            const auto whole = floor<seconds>(time);
            date_ = date_text(static_cast<std::time_t>(whole.count()));
            made_ = now;
            valid_until_ = now + duration_cast<Duration>(whole + seconds(1) - time);
        }
        status_ = 0;  // until the text is complete
        type_ = type;
        text_ = "HTTP/1.1 ";
        text_.append(std::to_string(status)).append(" ").append(reason_phrase(status));
        text_.append("\r\nDate: ").append(date_.data(), date_.size() - 1);
        if (!type.empty()) text_.append("\r\nContent-Type: ").append(type);
        status_ = status;
    }

    std::string text_, type_;
    int status_ = 0;
    std::array<char, 30> date_{};
    TimePoint made_ = TimePoint::max();
    TimePoint valid_until_ = TimePoint::min();
};

}  // namespace reactor::http
