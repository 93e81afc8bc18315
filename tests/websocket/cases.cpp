#include "cases.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace websocket_cases {

namespace {

/// Makes frames bit by bit, also those that are not allowed: it shares no code with the product's encoder.
class Maker {
public:
    explicit Maker(bool masked) : masked_(masked) {}

    /// A frame with the given first byte. `length_size`: bytes of an extended length, by default as few as needed.
    std::string frame(unsigned first, std::string_view payload, int length_size = -1, int masked = -1) const {
        std::string text(1, static_cast<char>(first));
        const bool with_mask = masked < 0 ? masked_ : masked != 0;
        const std::size_t length = payload.size();
        if (length_size < 0) length_size = length < 126 ? 0 : length < 65536 ? 2 : 8;
        const unsigned in_second = length_size == 0 ? static_cast<unsigned>(length) : length_size == 2 ? 126u : 127u;
        text += static_cast<char>(in_second | (with_mask ? 0x80u : 0u));
        for (int place = length_size - 1; place >= 0; --place) {
            text += static_cast<char>(static_cast<std::uint64_t>(length) >> (8 * place));
        }
        if (!with_mask) return text.append(payload);
        static constexpr std::array<char, 4> mask = {'\x37', '\xfa', '\x21', '\x3d'};
        text.append(mask.data(), mask.size());
        for (std::size_t at = 0; at < length; ++at) text += static_cast<char>(payload[at] ^ mask[at % 4]);
        return text;
    }

private:
    bool masked_;
};

std::string shown(std::string_view content) {
    return content.size() <= 64 ? std::string(content) : "(" + std::to_string(content.size()) + ")";
}

std::string close_payload(unsigned code, std::string_view reason = {}) {
    return std::string{static_cast<char>(code >> 8), static_cast<char>(code & 0xff)} + std::string(reason);
}

constexpr unsigned final_text = 0x81, final_binary = 0x82, text = 0x01, binary = 0x02, more = 0x00, final_more = 0x80,
                   close_frame = 0x88, ping_frame = 0x89, pong_frame = 0x8a;

}  // namespace

std::vector<Case> all(bool masked) {
    const Maker make(masked);
    std::vector<Case> cases;
    const auto add = [&cases](std::string clause, std::string input, std::string outcome) {
        cases.push_back({std::move(clause), std::move(input), std::move(outcome)});
    };

    // Every length at the edges of its three forms, of both kinds.
    for (const std::size_t length :
         {0u,  1u,   2u,   3u,   4u,   5u,   7u,   8u,   9u,    15u,    16u,    17u,    31u,    64u,
          65u, 124u, 125u, 126u, 127u, 128u, 255u, 256u, 1000u, 65534u, 65535u, 65536u, 65537u, 70000u}) {
        const std::string content(length, 'x');
        add("6455 5.2", make.frame(final_text, content), "text:" + shown(content) + " ");
        add("6455 5.2", make.frame(final_binary, content), "binary:" + shown(content) + " ");
    }
    // A length in more bytes than it needs, and one with its highest bit.
    for (const std::size_t length : {0u, 1u, 125u}) {
        const std::string content(length, 'x');
        for (const unsigned first : {final_text, final_binary}) {
            add("6455 5.2", make.frame(first, content, 2), "!1002:a length in more bytes than it needs ");
            add("6455 5.2", make.frame(first, content, 8), "!1002:a length in more bytes than it needs ");
        }
    }
    for (const std::size_t length : {126u, 1000u, 65535u}) {
        add("6455 5.2", make.frame(final_binary, std::string(length, 'x'), 8),
            "!1002:a length in more bytes than it needs ");
    }
    {
        std::string huge = make.frame(final_binary, "", 8);
        for (const char highest : {'\x80', '\xff'}) {
            huge[2] = highest;
            add("6455 5.2", huge, "!1002:a length with its highest bit set ");
        }
        huge[2] = '\x7f';
        add("6455 7.4.1", huge, "!1009:a message is too long ");
        add("6455 7.4.1", make.frame(final_binary, std::string(100'001, 'x')), "!1009:a message is too long ");
        add("6455 7.4.1",
            make.frame(binary, std::string(60'000, 'x')) + make.frame(final_more, std::string(40'001, 'x')),
            "!1009:a message is too long ");
        add("6455 7.4.1",
            make.frame(binary, std::string(60'000, 'x')) + make.frame(final_more, std::string(40'000, 'x')),
            "binary:(100000) ");
    }
    // Reserved bits, each combination with each opcode that is known.
    for (unsigned reserved = 1; reserved < 8; ++reserved) {
        for (const unsigned first : {final_text, final_binary, text, binary, close_frame, ping_frame, pong_frame}) {
            add("6455 5.2", make.frame(first | reserved << 4, "x"), "!1002:a reserved bit is set ");
        }
    }
    // Opcodes that are not known, final or not.
    for (const unsigned opcode : {3u, 4u, 5u, 6u, 7u, 11u, 12u, 13u, 14u, 15u}) {
        for (const unsigned final : {0x00u, 0x80u}) {
            add("6455 5.2", make.frame(final | opcode, ""), "!1002:an unknown opcode ");
            add("6455 5.2", make.frame(final | opcode, "x"), "!1002:an unknown opcode ");
        }
    }
    // Control frames: their lengths, never in fragments.
    for (const std::size_t length : {0u, 1u, 2u, 8u, 124u, 125u}) {
        const std::string content(length, 'p');
        add("6455 5.5.2", make.frame(ping_frame, content), "ping:" + shown(content) + " ");
        add("6455 5.5.3", make.frame(pong_frame, content), "pong:" + shown(content) + " ");
        add("6455 5.5", make.frame(ping_frame & 0x7f, content), "!1002:a control frame in fragments ");
        add("6455 5.5", make.frame(pong_frame & 0x7f, content), "!1002:a control frame in fragments ");
        add("6455 5.5", make.frame(close_frame & 0x7f, content), "!1002:a control frame in fragments ");
    }
    for (const std::size_t length : {126u, 127u, 200u, 65536u}) {
        for (const unsigned first : {ping_frame, pong_frame, close_frame}) {
            add("6455 5.5", make.frame(first, std::string(length, 'p')), "!1002:a control frame is too long ");
        }
    }
    for (const unsigned first : {ping_frame, pong_frame, close_frame}) {
        add("6455 5.5", make.frame(first, "x", 2), "!1002:a control frame is too long ");
        add("6455 5.5", make.frame(first, "x", 8), "!1002:a control frame is too long ");
    }
    // The mask: a client's frames have one, a server's never.
    for (const unsigned first : {final_text, final_binary, text, close_frame, ping_frame, pong_frame}) {
        const std::string why = masked ? "no mask from a client" : "a mask from a server";
        add("6455 5.1", make.frame(first, "", -1, masked ? 0 : 1), "!1002:" + why + " ");
        add("6455 5.1", make.frame(first, "xy", -1, masked ? 0 : 1), "!1002:" + why + " ");
    }
    // Fragments: how many, of which sizes, with control frames between.
    for (const unsigned first : {text, binary}) {
        const std::string kind = first == text ? "text:" : "binary:";
        const unsigned whole = first | 0x80;
        for (const std::size_t size : {0u, 1u, 5u, 130u}) {
            const std::string piece(size, 'f');
            std::string all, content;
            for (int fragments = 2; fragments <= 5; ++fragments) {
                all = make.frame(first, piece);
                content = piece;
                for (int at = 2; at < fragments; ++at) {
                    all += make.frame(more, piece);
                    content += piece;
                }
                add("6455 5.4", all + make.frame(final_more, "end"), kind + shown(content + "end") + " ");
                add("6455 5.4", all + make.frame(final_more, ""), kind + shown(content) + " ");
            }
            add("6455 5.4", all, size > 0 ? "…" : "…");
            add("6455 5.4", make.frame(first, piece) + make.frame(ping_frame, "p") + make.frame(final_more, piece),
                "ping:p " + kind + shown(piece + piece) + " ");
            add("6455 5.4", make.frame(first, piece) + make.frame(pong_frame, "") + make.frame(final_more, piece),
                "pong: " + kind + shown(piece + piece) + " ");
            add("6455 5.4", make.frame(first, piece) + make.frame(close_frame, "") + make.frame(final_more, piece),
                "close:1005: ");
            add("6455 5.4", make.frame(first, piece) + make.frame(final_text, "x"),
                "!1002:a message inside another one ");
            add("6455 5.4", make.frame(first, piece) + make.frame(final_binary, "x"),
                "!1002:a message inside another one ");
            add("6455 5.4", make.frame(first, piece) + make.frame(text, "x"), "!1002:a message inside another one ");
            add("6455 5.4", make.frame(whole, piece) + make.frame(final_more, "x"),
                kind + shown(piece) + " !1002:a continuation of nothing ");
        }
        add("6455 5.4", make.frame(whole, "1") + make.frame(whole, "2") + make.frame(whole, ""),
            kind + "1 " + kind + "2 " + kind + " ");
    }
    for (const unsigned first : {more, final_more}) {
        add("6455 5.4", make.frame(first, ""), "!1002:a continuation of nothing ");
        add("6455 5.4", make.frame(first, "x"), "!1002:a continuation of nothing ");
    }
    // Close frames: each code at the edges of those that may be sent.
    add("6455 5.5.1", make.frame(close_frame, ""), "close:1005: ");
    add("6455 5.5.1", make.frame(close_frame, "\x03"), "!1002:a close frame with half a code ");
    for (const unsigned code : {1000u, 1001u, 1002u, 1003u, 1007u, 1008u, 1009u, 1010u, 1011u, 1012u, 1013u, 1014u,
                                3000u, 3999u, 4000u, 4999u}) {
        add("6455 7.4", make.frame(close_frame, close_payload(code)), "close:" + std::to_string(code) + ": ");
        add("6455 7.4", make.frame(close_frame, close_payload(code, "why")), "close:" + std::to_string(code) + ":why ");
    }
    for (const unsigned code :
         {0u, 1u, 999u, 1004u, 1005u, 1006u, 1015u, 1016u, 1100u, 1999u, 2000u, 2999u, 5000u, 65535u}) {
        add("6455 7.4", make.frame(close_frame, close_payload(code)),
            "!1002:a close frame with a code that is not sent ");
        add("6455 7.4", make.frame(close_frame, close_payload(code, "why")),
            "!1002:a close frame with a code that is not sent ");
    }
    add("6455 5.5.1", make.frame(close_frame, close_payload(1000, std::string(123, 'r'))), "close:1000:(123) ");
    add("6455 5.5.1", make.frame(close_frame, close_payload(1000, "\xff")),
        "!1007:the reason of a close frame is not UTF-8 ");
    add("6455 5.5.1", make.frame(close_frame, close_payload(1000, "\xc3")),
        "!1007:the reason of a close frame is not UTF-8 ");
    add("6455 5.5.1", make.frame(close_frame, close_payload(1000)) + make.frame(final_text, "late"), "close:1000: ");
    // UTF-8: whole, in the middle of long text, and cut between two fragments.
    for (const std::string_view good :
         {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
          "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", "\xef\xbb\xbf"}) {
        add("6455 8.1", make.frame(final_text, good), "text:" + std::string(good) + " ");
        const std::string long_text = std::string(20, 'x') + std::string(good) + std::string(20, 'y');
        add("6455 8.1", make.frame(final_text, long_text), "text:" + shown(long_text) + " ");
        for (std::size_t cut = 1; cut < good.size() && cut < 4; ++cut) {
            add("6455 5.6", make.frame(text, good.substr(0, cut)) + make.frame(final_more, good.substr(cut)),
                "text:" + std::string(good) + " ");
        }
    }
    for (const std::string_view bad :
         {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3\x28", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
          "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
          "\xfe", "\xf8\x88\x80\x80\x80", "\xe1\x80\xc0"}) {
        add("6455 8.1", make.frame(final_text, bad), "!1007:a text is not UTF-8 ");
        add("6455 8.1", make.frame(final_text, std::string(20, 'x') + std::string(bad)), "!1007:a text is not UTF-8 ");
        add("6455 8.1", make.frame(text, bad) + make.frame(final_more, ""), "!1007:a text is not UTF-8 ");
        add("6455 8.1", make.frame(final_binary, bad), "binary:" + std::string(bad) + " ");
    }
    for (const std::string_view half : {"\xc3", "\xe1\x80", "\xf1\x80\x80"}) {
        add("6455 8.1", make.frame(final_text, half), "!1007:a text ends inside a character ");
        add("6455 8.1", make.frame(text, half) + make.frame(final_more, ""), "!1007:a text ends inside a character ");
        add("6455 8.1", make.frame(text, half) + make.frame(final_more, "x"), "!1007:a text is not UTF-8 ");
    }
    // Incomplete frames.
    for (const std::size_t length : {1u, 200u, 70000u}) {
        const std::string frame = make.frame(final_binary, std::string(length, 'x'));
        add("6455 5.2", frame.substr(0, 1), "…");
        add("6455 5.2", frame.substr(0, frame.size() - length), "…");
        add("6455 5.2", frame.substr(0, frame.size() - 1), "…");
    }
    add("6455 5.2", make.frame(ping_frame, "abc").substr(0, 4), "…");
    return cases;
}

}  // namespace websocket_cases
