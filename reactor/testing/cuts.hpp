// The checker that any protocol can be put through: a stream may be cut anywhere on its way, so every cut of
// an input must give the same result as the input in one piece. All cuts are tried where the input is short,
// and where it is long those that find the most faults, then random ones from a seed. Depends on no test
// framework.
#pragma once

#include <reactor/bytes.hpp>
#include <reactor/error.hpp>
#include <reactor/export.hpp>
#include <reactor/stream/protocol.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor::testing {

/// Thrown where a cut changes the result. `what()` says how the input was cut, from which seed, and both
/// results where they can be printed.
struct REACTOR_EXPORT CutFailure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// The ways to cut an input of `size` bytes, as the sizes of the pieces. Always among them: byte by byte,
/// and, as far as `most` allows, in two at each place.
class REACTOR_EXPORT Cuts {
public:
    /// `most`: how many cuts are tried. Inputs that have no more than these are cut in every way. `seed`: of the random
    /// cuts; without one it is drawn. A failure names it.
    explicit Cuts(std::size_t size, std::size_t most = default_most, std::optional<std::uint64_t> seed = {});

    static constexpr std::size_t default_most = 4096;

    /// The next way; nullopt when all were given.
    std::optional<std::vector<std::size_t>> next();

    std::uint64_t seed() const noexcept { return seed_; }
    /// "cut 3 + 1 + 4 (seed 17)".
    std::string describe(const std::vector<std::size_t>& pieces) const;

private:
    std::size_t size_;
    std::size_t most_;
    std::uint64_t seed_;
    std::mt19937_64 random_;
    std::size_t given_ = 0;
};

/// Calls `run(std::span<const Bytes> pieces)` with the whole input as one piece, then with every cut of it,
/// and throws CutFailure at the first result that is not equal (==) to the first one. `most` and `seed` are those of
/// Cuts. Returns how many cuts were tried.
template <class Run>
std::size_t check_every_cut(Bytes input, Run run, std::size_t most = Cuts::default_most,
                            std::optional<std::uint64_t> seed = {}) {
    const std::vector<Bytes> whole{input};
    const auto expected = run(std::span<const Bytes>(whole));
    Cuts cuts(input.size(), most, seed);
    std::size_t tried = 0;
    while (const auto sizes = cuts.next()) {
        std::vector<Bytes> pieces;
        std::size_t start = 0;
        for (const std::size_t size : *sizes) {
            pieces.push_back(input.subspan(start, size));
            start += size;
        }
        const auto result = run(std::span<const Bytes>(pieces));
        ++tried;
        if (result == expected) continue;
        std::ostringstream text;
        text << cuts.describe(*sizes);
        if constexpr (requires { text << result; }) text << ": " << result << " instead of " << expected;
        throw CutFailure(text.str());
    }
    return tried;
}
template <class Run>
std::size_t check_every_cut(std::string_view input, Run run, std::size_t most = Cuts::default_most,
                            std::optional<std::uint64_t> seed = {}) {
    return check_every_cut(bytes_of(input), std::move(run), most, seed);
}

struct Conversation;
REACTOR_EXPORT std::ostream& operator<<(std::ostream& out, const Conversation& conversation);

/// The bytes that the peer of a protocol sees, and how its connection ends.
struct Conversation {
    std::string output;
    bool ended = false;
    bool was_reset = false;
    std::optional<std::error_code> disconnected;

    friend bool operator==(const Conversation&, const Conversation&) = default;
    friend std::ostream& operator<<(std::ostream& out, const Conversation& conversation);
};

/// The same for a protocol: `make()` gives a new one for each cut, the pieces are fed to it on a
/// MemoryTransport, the peer ends, and all that it sees must be the same.
template <class Make>
std::size_t check_every_cut_of_protocol(std::string_view input, Make make, std::size_t most = Cuts::default_most,
                                        std::optional<std::uint64_t> seed = {}) {
    const auto run = [&make](std::span<const Bytes> pieces) {
        MemoryTransport connection(make());
        for (const Bytes piece : pieces) connection.feed(piece);
        connection.end();
        return Conversation{connection.take(), connection.ended(), connection.was_reset(), connection.disconnected()};
    };
    return check_every_cut(input, run, most, seed);
}

}  // namespace reactor::testing
