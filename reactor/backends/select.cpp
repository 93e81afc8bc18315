// select(2), with bitmaps of our own: as large as the highest descriptor, scanned a word at a time. The C
// library's fd_set ends at FD_SETSIZE, 1024, and setting a bit past it corrupts memory; Linux's system call
// takes sets of any size.
//
// Its sets report less than poll(2). Linux counts a hang-up as readable alone, and an error as readable and
// writable; so select cannot wake a handler that only writes when a terminal hangs up, and cannot distinguish an error.
// A loop with such an interest, in errors or in writable without readable, asks poll(2) instead, once: some files
// (mountinfo and the host name in /proc) report an event only to the first call.
#include <reactor/backends/poll_entries_impl.hpp>
#include <reactor/system_impl.hpp>

#include <fcntl.h>
#include <sys/select.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <climits>
#include <string>
#include <system_error>

namespace reactor {

namespace {

class Select final : public Demultiplexer {
public:
    std::string_view name() const noexcept override { return "select"; }

    void update(Token token, Interest before, Interest after) override {
        const auto descriptor = std::size_t(token.descriptor);
        if (descriptor >= generations_.size()) {
            if (after == Interest::none) return;
            grow(descriptor);
        }
        // Asked only for a number that is new here, or that may have been used again: the question is a system call.
        const bool unknown = after != Interest::none && (before == Interest::none || before == after);
        const bool refused = unknown && cannot_be_selected(token.descriptor);
        const Interest watched = refused ? Interest::none : after;
        generations_[descriptor] = token.generation;
        beyond_select_ -= std::size_t(is_beyond_select(wanted(descriptor)));
        beyond_select_ += std::size_t(is_beyond_select(watched));
        const Word bit = Word(1) << (descriptor % word_bits);
        for (std::size_t set = 0; set < sets; ++set) {
            Word& word = wanted_[set][descriptor / word_bits];
            word = any(watched, interests[set]) ? word | bit : word & ~bit;
        }
        if (watched != Interest::none) used_words_ = std::max(used_words_, descriptor / word_bits + 1);
        // A wait costs by the highest descriptor, so the end goes down again when the high ones have gone.
        while (used_words_ > 0 && wanted_at(used_words_ - 1) == 0) --used_words_;
        // Noted as unwatched before: after an exception nothing is watched (Demultiplexer::update).
        if (refused)
            throw std::system_error(EBADF, std::system_category(),
                                    "select(descriptor " + std::to_string(descriptor) + ")");
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        events_.clear();
        if (beyond_select_ > 0) return wait_by_poll(limit);
        const backends::Timeout timeout(limit);
        std::array<fd_set*, asked_sets> pointers{};
        for (std::size_t set = 0; set < asked_sets; ++set) {
            // The kernel writes its answer over the question.
            std::copy_n(wanted_[set].begin(), used_words_, ready_[set].begin());
            pointers[set] = reinterpret_cast<fd_set*>(ready_[set].data());
        }
        // No third set: Linux reports urgent data there (POLLPRI), and never an error.
        const int count =
            ::pselect(int(used_words_ * word_bits), pointers[0], pointers[1], nullptr, timeout.get(), nullptr);
        // One descriptor that was closed spoils the whole call, which then says nothing of the others.
        if (count < 0 && errno == EBADF) return wait_by_poll(Duration::zero());
        if (count < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "pselect");
        if (count > 0) collect(count);
        return events_;
    }

private:
    using Word = unsigned long;
    static constexpr std::size_t word_bits = sizeof(Word) * CHAR_BIT;
    static constexpr std::size_t sets = 3;
    static constexpr std::array<Interest, sets> interests{Interest::readable, Interest::writable, Interest::error};

    static constexpr std::size_t asked_sets = 2;  // not for errors

    // Linux's select counts an O_PATH descriptor, which poll(2) calls invalid, as ready; and it leaves out, without a
    // word, a number past the process's table, which has 64 places at first.
    static bool cannot_be_selected(int descriptor) noexcept {
        const int flags = ::fcntl(descriptor, F_GETFL);
#if REACTOR_HAS(O_PATH)
        if (flags >= 0) return (flags & O_PATH) != 0;
#endif
        return flags < 0 && errno == EBADF;
    }

    static bool is_beyond_select(Interest interest) noexcept {
        return interest != Interest::none && (!any(interest, Interest::readable) || any(interest, Interest::error));
    }

    Word wanted_at(std::size_t word) const noexcept {
        return wanted_[0][word] | wanted_[1][word] | wanted_[2][word];
    }

    Interest wanted(std::size_t descriptor) const noexcept {
        Interest wanted = Interest::none;
        for (std::size_t set = 0; set < sets; ++set)
            if (wanted_[set][descriptor / word_bits] >> (descriptor % word_bits) & 1) wanted |= interests[set];
        return wanted;
    }

    void grow(std::size_t descriptor) {
        const std::size_t words = std::max(descriptor / word_bits + 1, 2 * wanted_[0].size());
        for (std::size_t set = 0; set < sets; ++set) {
            wanted_[set].resize(words);
            if (set < asked_sets) ready_[set].resize(words);
        }
        generations_.resize(words * word_bits);
    }

    void collect(int count) {
        polled_.clear();
        for (std::size_t word = 0; count > 0 && word < used_words_; ++word) {
            const Word readable = ready_[0][word], writable = ready_[1][word];
            for (Word left = readable | writable; left != 0; left &= left - 1) {
                const Word bit = left & (~left + 1);
                const auto descriptor = word * word_bits + std::size_t(std::countr_zero(left));
                Condition condition = Condition::none;
                if (readable & bit) condition |= Condition::readable;
                if (writable & bit) condition |= Condition::writable;
                // pselect(2) counts bits: a descriptor in two sets counts twice.
                count -= std::popcount(std::uint32_t(condition));
                if (!(writable & bit) && (wanted_[1][word] & bit)) polled_.push_back(poll_entry(descriptor));
                events_.push_back({{int(descriptor), generations_[descriptor]}, condition});
            }
        }
        if (!polled_.empty()) add_hang_ups();
    }

    // A handler that reads and writes, and is only readable: it may be a hang-up, which ends both.
    void add_hang_ups() {
        // If it fails, for want of memory as a rule, the next wait finds the hang-up: it is level-triggered.
        if (backends::poll_entries(polled_, Duration::zero()) < 0) return;
        auto event = events_.begin();
        for (const pollfd& entry : polled_) {
            while (event->token.descriptor != entry.fd) ++event;
            event->condition |= backends::condition_of(entry.revents) & Condition::hangup;
        }
    }

    // Also for one bad descriptor, for which the whole call fails with EBADF: poll(2) says which it is.
    std::span<const Event> wait_by_poll(std::optional<Duration> limit) {
        polled_.clear();
        for (std::size_t word = 0; word < used_words_; ++word)
            for (Word left = wanted_at(word); left != 0; left &= left - 1)
                polled_.push_back(poll_entry(word * word_bits + std::size_t(std::countr_zero(left))));
        const int count = backends::poll_entries(polled_, limit);
        if (count < 0 && errno != EINTR)
            throw std::system_error(errno, std::system_category(),
                                    "ppoll(" + std::to_string(polled_.size()) + " descriptors)");
        if (count <= 0) return events_;
        for (const pollfd& entry : polled_)
            if (entry.revents != 0)
                events_.push_back(
                    {{entry.fd, generations_[std::size_t(entry.fd)]}, backends::condition_of(entry.revents)});
        return events_;
    }

    pollfd poll_entry(std::size_t descriptor) const noexcept {
        return {int(descriptor), backends::poll_events(wanted(descriptor)), 0};
    }

    std::array<std::vector<Word>, sets> wanted_;
    std::array<std::vector<Word>, asked_sets> ready_;
    std::vector<std::uint32_t> generations_;
    std::size_t used_words_ = 0;     // all sets are empty behind these
    std::size_t beyond_select_ = 0;  // descriptors whose interest select cannot report
    std::vector<Event> events_;
    std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_select() {
    return std::make_unique<Select>();
}

}  // namespace reactor
