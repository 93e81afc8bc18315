// Gathering: the writes that connections were given from outside in this iteration, in another connection's callback
// for instance. It leaves at the iteration's end, with one send for each. Not installed.
#pragma once

#include <reactor/bytes.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace reactor {

class SocketConnection;

/// A connection's first small piece lies in memory of the loop, so that a broadcast needs none of its connections.
/// Equal pieces right behind each other, as a broadcast's are, lie there once. All that follows is in the connection's
/// output.
class Gathering {
public:
    static constexpr std::uint32_t no_place = std::uint32_t(-1);
    struct Entry {
        SocketConnection* connection = nullptr;  // null when it has left
        Bytes piece = {};                        // empty: in its output
    };

    std::size_t size() const noexcept { return entries_.size(); }
    const Entry& operator[](std::size_t place) const noexcept { return entries_[place]; }

    /// Lists it, and keeps `piece` if there is room. Returns its place. Throws std::bad_alloc, and then nothing has
    /// changed.
    std::uint32_t add(SocketConnection& connection, Bytes piece) {
        entries_.push_back({&connection, piece.empty() ? Bytes() : kept(piece)});
        return std::uint32_t(entries_.size() - 1);
    }
    /// The piece that is kept for this place, if any; it is the caller's to send.
    Bytes take(std::uint32_t place) noexcept { return std::exchange(entries_[place].piece, Bytes()); }
    void leave(std::uint32_t place) noexcept { entries_[place] = {}; }
    void clear() noexcept {
        entries_.clear();
        last_ = {};
        used_ = 0;
    }

private:
    // Empty if there is no room.
    Bytes kept(Bytes piece) {
        if (piece.size() == last_.size() && std::memcmp(piece.data(), last_.data(), piece.size()) == 0) return last_;
        if (memory_ == nullptr) memory_.reset(new std::byte[memory_size]);
        if (piece.size() > memory_size - used_) return {};
        std::memcpy(memory_.get() + used_, piece.data(), piece.size());
        last_ = {memory_.get() + used_, piece.size()};
        used_ += piece.size();
        return last_;
    }

    static constexpr std::size_t memory_size = 64 * 1024;
    std::vector<Entry> entries_;
    std::unique_ptr<std::byte[]> memory_;
    std::size_t used_ = 0;
    Bytes last_;
};

}  // namespace reactor
