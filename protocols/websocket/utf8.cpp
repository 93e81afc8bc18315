#include <protocols/websocket/utf8.hpp>

#include <cstring>

namespace reactor::websocket {

bool Utf8Check::accept(Bytes piece) noexcept {
    const auto* at = reinterpret_cast<const unsigned char*>(piece.data());
    const auto* const end = at + piece.size();
    while (at != end) {
        if (missing_ == 0) {
            // ASCII, eight bytes at a time.
            for (std::uint64_t word = 0; end - at >= 8; at += 8) {
                std::memcpy(&word, at, sizeof word);
                if ((word & 0x8080808080808080) != 0) break;
            }
            if (at == end) return true;
            const unsigned char lead = *at++;
            if (lead < 0x80) continue;
            least_ = 0x80;
            most_ = 0xbf;
            if (lead >= 0xc2 && lead <= 0xdf) {  // 0xc0 and 0xc1 would be overlong
                missing_ = 1;
            } else if (lead >= 0xe0 && lead <= 0xef) {
                missing_ = 2;
                if (lead == 0xe0) least_ = 0xa0;  // overlong below
                if (lead == 0xed) most_ = 0x9f;   // surrogates above
            } else if (lead >= 0xf0 && lead <= 0xf4) {
                missing_ = 3;
                if (lead == 0xf0) least_ = 0x90;  // overlong below
                if (lead == 0xf4) most_ = 0x8f;   // beyond U+10FFFF above
            } else {
                return false;
            }
            continue;
        }
        if (*at < least_ || *at > most_) return false;
        least_ = 0x80;
        most_ = 0xbf;
        --missing_;
        ++at;
    }
    return true;
}

}  // namespace reactor::websocket
