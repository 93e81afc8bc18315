// What the load program says and what it must hear: an echo of patterned bytes, requests of HTTP, or messages of
// WebSocket.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace bench {

/// Text that repeats without end. Some bytes of each period may differ when it is compared.
class Repeated {
public:
    static constexpr std::size_t longest_piece = 256 * 1024;

    explicit Repeated(std::string period, std::size_t free_begin = std::string::npos, std::size_t free_size = 0)
        : period_(period.size()), free_begin_(free_begin), free_end_(free_begin + free_size), text_(std::move(period)) {
        text_.reserve(period_ + longest_piece + period_);
        while (text_.size() < period_ + longest_piece) text_.append(text_, 0, period_);
    }

    std::size_t period() const noexcept { return period_; }

    /// From a place on, at most `longest_piece` bytes.
    const char* at(std::uint64_t place) const noexcept { return text_.data() + place % period_; }

    /// How many bytes are as they should be, up to the first that is not.
    std::size_t same(std::uint64_t place, const char* data, std::size_t size) const noexcept {
        std::size_t done = 0;
        while (done < size) {
            const std::size_t offset = std::size_t((place + done) % period_);
            const bool is_free = offset >= free_begin_ && offset < free_end_;
            const std::size_t next = is_free ? free_end_ : offset < free_begin_ ? free_begin_ : period_;
            const std::size_t length = free_begin_ < period_ ? std::min(size - done, next - offset) : size - done;
            const char* const wanted = text_.data() + offset;
            if (!is_free && std::memcmp(data + done, wanted, length) != 0)
                return std::size_t(std::mismatch(data + done, data + done + length, wanted).first - data);
            done += length;
        }
        return size;
    }

private:
    std::size_t period_, free_begin_, free_end_;
    std::string text_;
};

/// Bytes that depend on their place in the stream: whatever is lost, doubled, swapped or crossed over differs. The
/// period is a prime, so no message size falls in step with it.
inline Repeated echo_pattern() {
    std::string bytes(65521, 0);
    std::uint32_t state = 2463534242U;
    for (char& byte : bytes) {
        state ^= state << 13, state ^= state >> 17, state ^= state << 5;
        byte = char(state >> 24);
    }
    return Repeated(std::move(bytes));
}

constexpr std::string_view http_content = "Hello, World!";  // with which the answer to `http_request` ends
constexpr std::string_view http_request = "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n";
constexpr std::string_view websocket_request =
    "GET /socket HTTP/1.1\r\nHost: localhost:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The answer as one came from a server: the next may have another Date (RFC 9110 6.6.1), of the same length.
inline Repeated answer_like(std::string first) {
    const std::size_t date = first.find("\r\nDate: ");
    const std::size_t begin = date == std::string::npos ? date : date + 8;
    const std::size_t size = date == std::string::npos ? 0 : first.find('\r', begin) - begin;
    return Repeated(std::move(first), begin, size);
}

/// A message of text in one frame (RFC 6455 5.2), with a mask as clients send it, or without as servers do.
inline std::string websocket_frame(std::size_t size, bool masked) {
    if (size > 65535) throw std::runtime_error("--websocket: at most 65535 bytes a message");
    const char mask_bit = masked ? char(0x80) : char(0);
    const std::array<char, 4> mask = {0x31, 0x07, 0x5B, 0x2E};
    std::string frame(1, char(0x81));
    if (size < 126) {
        frame += char(mask_bit | char(size));
    } else {
        frame += char(mask_bit | 126);
        frame += char(size >> 8);
        frame += char(size & 0xFF);
    }
    if (masked) frame.append(mask.data(), mask.size());
    for (std::size_t i = 0; i < size; ++i) {
        const char letter = char('a' + i % 23);
        frame += masked ? char(letter ^ mask[i % 4]) : letter;
    }
    return frame;
}

}  // namespace bench
