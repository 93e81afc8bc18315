// Output on the engine of completions: small writes are collected, others go their own ways, and a socket may take a
// part or nothing of each. The bytes arrive once and in the order in which they were written.
#include "../support/loop.hpp"

#include <reactor/testing/scripted_completions.hpp>

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>

using namespace reactor;

namespace {

using Odds = testing::ScriptedCompletions::Odds;

constexpr int one_descriptor[] = {STDERR_FILENO};  // the peer reads without looking for it

constexpr std::size_t small = 300, collected_at_most = 4096, large = 60'000;

FileDescriptor file_with(std::string_view text) {
    FileDescriptor file(::memfd_create("written", MFD_CLOEXEC));
    REQUIRE(::write(file.get(), text.data(), text.size()) == ssize_t(text.size()));
    return file;
}

// Writes all of a text, in pieces of all sizes and in every way that there is.
class Writer {
public:
    Writer(Journal& journal, unsigned seed)
        : journal_(journal), random_(seed), passes_descriptors_(seed % 3 == 0), text_(random_bytes(500'000, seed)) {}

    void write_some_pieces() {
        for (unsigned pieces = random_() % 4; pieces > 0 && journal_.transport != nullptr; --pieces) write_piece();
    }
    bool is_done() const { return at_ == text_.size(); }
    std::string_view written() const { return std::string_view(text_).substr(0, at_); }

private:
    void write_piece() {
        constexpr std::size_t sizes[] = {1, small, small, collected_at_most, large};
        const std::size_t most = sizes[random_() % std::size(sizes)];
        const std::string_view piece = std::string_view(text_).substr(at_, 1 + random_() % most);
        if (piece.empty()) return;
        at_ += piece.size();
        Transport& transport = *journal_.transport;
        if (random_() % 4 == 0)
            CHECK(transport.write_file(file_with(piece), 0, piece.size()));
        else if (passes_descriptors_ && random_() % 8 == 0)
            CHECK(dynamic_cast<Connection&>(transport).send_descriptors(bytes_of(piece), one_descriptor));
        else
            CHECK(transport.write(piece));
    }

    Journal& journal_;
    std::mt19937 random_;
    const bool passes_descriptors_;  // afterwards less is collected
    std::string text_;
    std::size_t at_ = 0;
};

}  // namespace

TEST_CASE("Whatever is written in whatever way and wherever, it arrives in order, however little a send takes") {
    for (unsigned seed = 0; seed < 300; ++seed) {
        CAPTURE(seed);
        std::mt19937 random(seed);
        Odds odds;
        odds.unsent = seed % 2 == 0 ? 0 : unsigned(2 + random() % 8);
        odds.sent_less = unsigned(1 + random() % 10);
        Reactor reactor(testing::io_uring(std::make_unique<testing::ScriptedCompletions>(seed, odds)));
        ConnectionOptions options;
        options.limits.high_mark = options.limits.output_limit = 1'000'000;
        if (seed % 4 < 2) options.prepare = send_buffer(4096);
        Conversation talk(reactor, Socket::pair(), options);
        Writer writer(talk.journal, seed);
        talk.journal.on_received = [&](Bytes input) {
            writer.write_some_pieces();
            return input.size();
        };
        std::string got;
        for (int turn = 0; turn < 100'000 && !(writer.is_done() && got.size() >= writer.written().size()); ++turn) {
            if (random() % 2 == 0) write_some(talk.peer, "go on");
            if (random() % 2 == 0) reactor.post([&] { writer.write_some_pieces(); });
            if (writer.is_done() || random() % 4 == 0) got += read_all(talk.peer);
            reactor.run_once(Duration::zero());
        }
        CHECK(writer.is_done());
        CHECK((got == writer.written()));  // not to be printed
    }
}
