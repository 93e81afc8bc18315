// Daytime: each client gets the date and the time in one line that people can read (RFC 867), in universal
// time.
#pragma once

#include <reactor/stream/protocol.hpp>

#include <array>
#include <chrono>
#include <string>
#include <string_view>

namespace reactor {

/// Writes one line when the connection stands, and closes.
class Daytime final : public Protocol {
public:
    using WallClock = std::chrono::system_clock::time_point (*)();

    explicit Daytime(WallClock now = std::chrono::system_clock::now) noexcept : now_(now) {}

    /// "Tuesday, February 22, 1982 17:37:43-UTC\r\n", the first form that the RFC suggests.
    static std::string line(std::chrono::system_clock::time_point time) {
        using namespace std::chrono;
        constexpr std::array<std::string_view, 7> weekdays{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                           "Thursday", "Friday", "Saturday"};
        constexpr std::array<std::string_view, 12> months{"January",   "February", "March",    "April",
                                                          "May",       "June",     "July",     "August",
                                                          "September", "October",  "November", "December"};
        const auto two_digits = [](auto number) {
            return std::string{char('0' + number / 10), char('0' + number % 10)};
        };
        const auto day = floor<days>(time);
        const year_month_day date(day);
        const hh_mm_ss clock(floor<seconds>(time - day));
        return std::string(weekdays[weekday(day).c_encoding()]) + ", " +
               std::string(months[unsigned(date.month()) - 1]) + " " + std::to_string(unsigned(date.day())) + ", " +
               std::to_string(int(date.year())) + " " + two_digits(clock.hours().count()) + ":" +
               two_digits(clock.minutes().count()) + ":" + two_digits(clock.seconds().count()) + "-UTC\r\n";
    }

private:
    void connected() override {
        transport().write(line(now_()));
        transport().close();
    }
    std::size_t received(Bytes input) override { return input.size(); }

    WallClock now_;
};

}  // namespace reactor
