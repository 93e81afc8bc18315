// The fields that every answer has: Date (RFC 9110, 6.6.1), made anew once a second.
#pragma once

#include <reactor/clock.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <ctime>
#include <string_view>

namespace reactor::http {

/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7). Not by strftime(3), which follows the locale.
inline std::array<char, 30> date_text(std::time_t time) noexcept {
    static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    std::array<char, 30> text{};
    std::array<char, 64> room{};
    std::snprintf(room.data(), room.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[parts.tm_wday], parts.tm_mday,
                  months[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
    std::copy_n(room.begin(), text.size() - 1, text.begin());
    return text;
}

/// The present date as text. It asks the system's clock only when the loop's says that a second may be over.
class DateText {
public:
    std::string_view at(TimePoint now) noexcept {
        if (now >= valid_until_ || now < made_) renew(now);
        return {text_.data(), text_.size() - 1};
    }

private:
    void renew(TimePoint now) noexcept {
        using namespace std::chrono;
        const auto time = system_clock::now().time_since_epoch();
        const auto whole = floor<seconds>(time);
        text_ = date_text(static_cast<std::time_t>(whole.count()));
        made_ = now;
        valid_until_ = now + duration_cast<Duration>(whole + seconds(1) - time);
    }

    std::array<char, 30> text_{};
    TimePoint made_ = TimePoint::max();
    TimePoint valid_until_ = TimePoint::min();
};

}  // namespace reactor::http
