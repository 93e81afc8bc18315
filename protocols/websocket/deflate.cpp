#include <protocols/websocket/deflate_impl.hpp>

#ifdef REACTOR_DEFLATE

#include <zlib.h>

#include <algorithm>
#include <array>
#include <new>

namespace reactor::websocket::deflate {

const bool available = true;

namespace {

constexpr int raw_window = -15;  // the largest one, without zlib's own header
/// The end of a block that is left out of a message (RFC 7692, 7.2.1).
constexpr std::array<std::byte, 4> tail{std::byte{0}, std::byte{0}, std::byte{0xff}, std::byte{0xff}};

/// zlib's states: some 256 KiB and 40 KiB for a thread.
struct States {
    States() {
        if (::deflateInit2(&down, Z_DEFAULT_COMPRESSION, Z_DEFLATED, raw_window, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            throw std::bad_alloc();
        if (::inflateInit2(&up, raw_window) == Z_OK) return;
        ::deflateEnd(&down);
        throw std::bad_alloc();
    }
    ~States() {
        ::deflateEnd(&down);
        ::inflateEnd(&up);
    }
    States(const States&) = delete;
    States& operator=(const States&) = delete;

    z_stream down{}, up{};
    std::vector<std::byte> room;
};

States& states() {
    thread_local States all;
    return all;
}

// zlib's structure has pointers that are not const, and does not write to its input.
Bytef* bytes_for_zlib(const std::byte* bytes) noexcept {
    return reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes));
}

}  // namespace

Bytes compressed(Bytes message) {
    if (message.size() > 1u << 30) return {};  // zlib counts in 32 bits
    States& all = states();
    if (all.room.capacity() > 1024 * 1024) all.room = {};
    z_stream& zlib = all.down;
    ::deflateReset(&zlib);
    // With no more room than the message takes: one that does not become smaller is sent as it is.
    all.room.resize(message.size());
    zlib.next_in = bytes_for_zlib(message.data());
    zlib.avail_in = static_cast<uInt>(message.size());
    zlib.next_out = bytes_for_zlib(all.room.data());
    zlib.avail_out = static_cast<uInt>(all.room.size());
    if (::deflate(&zlib, Z_SYNC_FLUSH) != Z_OK || zlib.avail_in != 0 || zlib.avail_out == 0) return {};
    const std::size_t size = all.room.size() - zlib.avail_out;
    return size < tail.size() ? Bytes() : Bytes(all.room).first(size - tail.size());
}

Outcome decompress(std::vector<std::byte> payload, std::size_t most, std::vector<std::byte>& message) {
    z_stream& zlib = states().up;
    ::inflateReset(&zlib);
    most = std::min<std::size_t>(most, 1u << 30);
    payload.insert(payload.end(), tail.begin(), tail.end());
    if (payload.size() > 1u << 30) return Outcome::too_long;
    zlib.next_in = bytes_for_zlib(payload.data());
    zlib.avail_in = static_cast<uInt>(payload.size());
    std::size_t size = 0;
    bool between_blocks = false;
    for (;;) {
        // One byte more than is allowed is asked for, to know that there is one.
        if (size == message.size()) message.resize(std::min(most + 1, std::max<std::size_t>(2 * size, 4096)));
        const std::size_t room = std::min<std::size_t>(message.size() - size, 1u << 30);
        zlib.next_out = bytes_for_zlib(message.data() + size);
        zlib.avail_out = static_cast<uInt>(room);
        const int result = ::inflate(&zlib, Z_SYNC_FLUSH);
        size += room - zlib.avail_out;
        // A call that does nothing, because all was read and the room before was filled exactly, forgets it.
        if (result != Z_BUF_ERROR) between_blocks = (zlib.data_type & 128) != 0;
        if (size > most) return Outcome::too_long;
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return Outcome::malformed;
        if (zlib.avail_in == 0 && zlib.avail_out != 0) break;
        if (result == Z_STREAM_END) {
            ::inflateReset(&zlib);  // a last block in the middle of a message (RFC 7692, 7.2.3.5)
        } else if (result == Z_BUF_ERROR && zlib.avail_out != 0) {
            return Outcome::malformed;
        }
    }
    if (!between_blocks) return Outcome::malformed;
    message.resize(size);
    return Outcome::whole;
}

}  // namespace reactor::websocket::deflate

#else

namespace reactor::websocket::deflate {

const bool available = false;

Bytes compressed(Bytes) {
    return {};
}

Outcome decompress(std::vector<std::byte>, std::size_t, std::vector<std::byte>&) {
    return Outcome::malformed;
}

}  // namespace reactor::websocket::deflate

#endif
