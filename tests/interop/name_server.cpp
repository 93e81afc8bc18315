// A name server over TCP (RFC 1035 4.2.2: each message after its length in two bytes) for which every name has the one
// address 192.0.2.53. A query that is none ends its connection.
#include "serve.hpp"

#include <protocols/framing/framed.hpp>
#include <protocols/framing/length_prefixed.hpp>

#include <string>
#include <string_view>

using namespace reactor;

namespace {

constexpr std::size_t header_size = 12;

/// Where the only question of a query ends, or 0 if there is not exactly one.
std::size_t end_of_question(std::string_view query) {
    if (query.size() < header_size || query.substr(4, 2) != std::string_view("\0\1", 2)) return 0;
    std::size_t at = header_size;
    while (at < query.size() && query[at] != '\0') at += 1 + static_cast<unsigned char>(query[at]);
    at += 1 + 4;  // the root's empty label, type and class
    return at <= query.size() ? at : 0;
}

class Names final : public Framed<LengthPrefixed> {
public:
    Names() : Framed(LengthPrefixed(2)) {}

private:
    void message(Bytes message) override {
        const std::string_view query = text_of(message);
        const std::size_t end = end_of_question(query);
        if (end == 0) return transport().abort();
        std::string answer(query.substr(0, 2));
        answer +=
            std::string_view("\x85\x80\0\1\0\1\0\0\0\0", 10);  // an authoritative answer; one question, one record
        answer += query.substr(header_size, end - header_size);
        // The name of the question, type A, class IN, a minute to live, four bytes.
        answer += std::string_view("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\x35", 16);
        send(answer);
    }
};

}  // namespace

int main() {
    return interop::serve(factory<Names>());
}
