// SOCKS5: a proxy that connects each client to the target that it names (RFC 1928). It knows CONNECT and no
// authentication: whoever reaches it may use it, so it listens for this machine alone.
//
//     AcceptorOptions options;
//     options.connection.limits.message_timeout = std::chrono::seconds(10);  // for its questions
//     Acceptor acceptor{reactor, "localhost", 1080, factory<Socks5>(), options};
#pragma once

#include <protocols/forward.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>

namespace reactor {

/// Answers a client's two questions, connects to its target, and forwards.
class Socks5 final : public Forward {
public:
    explicit Socks5(ConnectorOptions options = {}) : Forward(std::move(options)) {}

private:
    enum class Reply : std::uint8_t {
        succeeded = 0,
        failure = 1,
        network_unreachable = 3,
        host_unreachable = 4,
        refused = 5,
        timed_out = 6,
        no_such_command = 7,
        no_such_address = 8
    };
    static constexpr std::uint8_t version = 5, no_authentication = 0, none_of_these = 0xff, connect = 1;

    static std::uint8_t at(Bytes bytes, std::size_t place) { return std::uint8_t(bytes[place]); }

    std::size_t asked(Bytes input) override {
        std::size_t consumed = 0;
        if (!greeted_) consumed = greeting(input);
        if (greeted_) consumed += request(input.subspan(consumed));
        return consumed;
    }

    // version, number of methods, methods
    std::size_t greeting(Bytes input) {
        if (input.size() < 2) return 0;
        if (at(input, 0) != version) return refuse(input);
        const std::size_t size = 2 + std::size_t(at(input, 1));
        if (input.size() < size) return 0;
        const Bytes methods = input.first(size).subspan(2);
        greeted_ = std::find(methods.begin(), methods.end(), std::byte(no_authentication)) != methods.end();
        transport().write(std::array{std::byte(version), std::byte(greeted_ ? no_authentication : none_of_these)});
        if (!greeted_) transport().close();
        return size;
    }

    // version, command, 0, kind of address, address, port
    std::size_t request(Bytes input) {
        constexpr std::size_t head = 4;
        if (input.size() < head + 1) return 0;
        if (at(input, 0) != version) return refuse(input);
        if (at(input, 1) != connect) return answer(Reply::no_such_command, input);
        std::size_t begin = head, length = 0;
        switch (at(input, 3)) {
            case 1: length = 4; break;
            case 3: length = at(input, begin++); break;
            case 4: length = 16; break;
            default: return answer(Reply::no_such_address, input);
        }
        const std::size_t size = begin + length + 2;
        if (input.size() < size) return 0;
        const Bytes address = input.subspan(begin, length);
        const auto port = std::uint16_t(at(input, size - 2) << 8 | at(input, size - 1));
        connect_to(at(input, 3) == 3 ? std::string(text_of(address)) : numeric(address), port);
        return size;  // the rest is the target's
    }

    // "192.0.2.1", "2001:db8:0:0:0:0:0:1"
    static std::string numeric(Bytes address) {
        std::string text;
        for (std::size_t i = 0; i < address.size(); ++i) {
            if (address.size() == 4) {
                text += (i > 0 ? "." : "") + std::to_string(at(address, i));
                continue;
            }
            constexpr std::string_view digits = "0123456789abcdef";
            if (i > 0 && i % 2 == 0) text += ':';
            text += {digits[at(address, i) >> 4], digits[at(address, i) & 15]};
        }
        return text;
    }

    void target_answered(std::error_code error) override {
        if (!error) return write(Reply::succeeded);
        answer(error == std::errc::connection_refused    ? Reply::refused
               : error == std::errc::network_unreachable ? Reply::network_unreachable
               : error == std::errc::host_unreachable    ? Reply::host_unreachable
               : error == std::errc::timed_out           ? Reply::timed_out
                                                         : Reply::failure,
               {});
    }

    // The address that it is bound to is left out, as it is by most proxies: an IPv4 address of zeros.
    void write(Reply reply) {
        transport().write(std::array<std::byte, 10>{std::byte(version), std::byte(reply), {}, std::byte(1)});
    }
    std::size_t answer(Reply reply, Bytes input) {
        write(reply);
        transport().close();
        return input.size();
    }
    // A client of another protocol.
    std::size_t refuse(Bytes input) {
        transport().abort(std::make_error_code(std::errc::protocol_error));
        return input.size();
    }

    bool greeted_ = false;
};

}  // namespace reactor
