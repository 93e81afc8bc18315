// The ways in which an input can be cut.
#include <reactor/testing/cuts.hpp>

#include <algorithm>
#include <ostream>

namespace reactor::testing {

Cuts::Cuts(std::size_t size, std::size_t most, std::optional<std::uint64_t> seed)
    : size_(size), most_(most), seed_(seed ? *seed : std::random_device()()), random_(seed_) {}

std::optional<std::vector<std::size_t>> Cuts::next() {
    if (size_ == 0) return std::nullopt;
    const std::size_t places = size_ - 1;
    const bool all = places < 63 && (std::uint64_t(1) << places) <= most_;
    const std::size_t count = all ? std::size_t(1) << places : most_;
    if (given_ == count) return std::nullopt;
    const std::size_t number = given_++;

    if (!all && number == 0) return std::vector<std::size_t>(size_, 1);
    if (!all && number <= places) return std::vector<std::size_t>{number, size_ - number};

    // Rare cuts and frequent ones find different faults.
    const std::size_t one_in = all ? 0 : std::size_t(1) << (random_() % 8);
    std::vector<std::size_t> pieces;
    std::size_t piece = 1;
    for (std::size_t place = 0; place < places; ++place, ++piece) {
        const bool cut = all ? (number >> place & 1) != 0 : random_() % (one_in + 1) == 0;
        if (!cut) continue;
        pieces.push_back(std::exchange(piece, 0));
    }
    pieces.push_back(piece);
    return pieces;
}

std::string Cuts::describe(const std::vector<std::size_t>& pieces) const {
    constexpr std::size_t shown = 50;
    std::string text = "cut ";
    for (std::size_t i = 0; i < std::min(pieces.size(), shown); ++i) {
        if (i != 0) text += " + ";
        text += std::to_string(pieces[i]);
    }
    if (pieces.size() > shown) text += " + … (" + std::to_string(pieces.size()) + " pieces)";
    return text + " (seed " + std::to_string(seed_) + ")";
}

std::ostream& operator<<(std::ostream& out, const Conversation& conversation) {
    out << '"' << conversation.output << '"';
    if (conversation.ended) out << ", ended";
    if (conversation.was_reset) out << ", reset";
    if (conversation.disconnected) out << ", disconnected: " << conversation.disconnected->message();
    return out;
}

}  // namespace reactor::testing
