// Time: each client gets the seconds since the beginning of 1900, as 32 bits in network order (RFC 868).
// They wrap on the 7th of February 2036; the protocol has no answer to that, clients take the era that
// is nearest.
#pragma once

#include <reactor/stream/protocol.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace reactor {

/// Writes four bytes when the connection stands, and closes.
class Time final : public Protocol {
public:
    using WallClock = std::chrono::system_clock::time_point (*)();

    explicit Time(WallClock now = std::chrono::system_clock::now) noexcept : now_(now) {}

    static std::array<std::byte, 4> encoded(std::chrono::system_clock::time_point time) noexcept {
        constexpr std::int64_t from_1900_to_1970 = 2'208'988'800;  // RFC 868
        const auto since_1970 = std::chrono::floor<std::chrono::seconds>(time).time_since_epoch();
        const auto seconds = std::uint32_t(since_1970.count() + from_1900_to_1970);
        return {std::byte(seconds >> 24), std::byte(seconds >> 16), std::byte(seconds >> 8), std::byte(seconds)};
    }

private:
    void connected() override {
        transport().write(encoded(now_()));
        transport().close();
    }
    std::size_t received(Bytes input) override { return input.size(); }

    WallClock now_;
};

}  // namespace reactor
