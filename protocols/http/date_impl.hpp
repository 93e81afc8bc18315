// A date as HTTP writes it.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <ctime>
#include <string_view>

namespace reactor::http {

/// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7), and an end; a year has four digits, so other times are moved to
/// the nearest. By hand: strftime(3) follows the locale, and snprintf(3) was a sixth of a request for a file.
inline std::array<char, 30> date_text(std::time_t time) noexcept {
    namespace chrono = std::chrono;
    static constexpr std::string_view days = "SunMonTueWedThuFriSat", months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    constexpr chrono::seconds first = chrono::sys_days(chrono::year(0) / 1 / 1).time_since_epoch();
    constexpr chrono::seconds last = chrono::sys_days(chrono::year(10000) / 1 / 1).time_since_epoch();
    const chrono::sys_seconds moment(std::clamp(chrono::seconds(time), first, last - chrono::seconds(1)));
    const auto day = chrono::floor<chrono::days>(moment);
    const chrono::year_month_day date(day);
    const chrono::hh_mm_ss clock(moment - day);

    std::array<char, 30> text{"Thu, 01 Jan 1970 00:00:00 GMT"};
    const auto two_digits = [&text](std::size_t at, unsigned number) {
        text[at] = char('0' + number / 10);
        text[at + 1] = char('0' + number % 10);
    };
    days.copy(text.data(), 3, std::size_t(chrono::weekday(day).c_encoding()) * 3);
    two_digits(5, unsigned(date.day()));
    months.copy(text.data() + 8, 3, (std::size_t(unsigned(date.month())) - 1) * 3);
    two_digits(12, unsigned(int(date.year())) / 100);
    two_digits(14, unsigned(int(date.year())) % 100);
    two_digits(17, unsigned(clock.hours().count()));
    two_digits(20, unsigned(clock.minutes().count()));
    two_digits(23, unsigned(clock.seconds().count()));
    return text;
}

}  // namespace reactor::http
