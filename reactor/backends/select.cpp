// select(2), with bitmaps of our own: as large as the highest descriptor, scanned a word at a time. The C
// library's fd_set ends at FD_SETSIZE, 1024, and setting a bit past it corrupts memory; Linux's system call
// takes sets of any size.
#include <reactor/backends/kernel_words_impl.hpp>

#include <sys/select.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <climits>
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
        generations_[descriptor] = token.generation;
        error_only_ += std::size_t(after == Interest::error);
        error_only_ -= std::size_t(before == Interest::error);
        const Word bit = Word(1) << (descriptor % word_bits);
        for (std::size_t set = 0; set < sets; ++set) {
            Word& word = wanted_[set][descriptor / word_bits];
            word = any(after, interests[set]) ? word | bit : word & ~bit;
        }
        if (after != Interest::none) used_words_ = std::max(used_words_, descriptor / word_bits + 1);
        while (used_words_ > 0 && wanted_at(used_words_ - 1) == 0) --used_words_;
    }

    std::span<const Event> wait(std::optional<Duration> limit) override {
        events_.clear();
        if (error_only_ > 0) return wait_by_poll(limit);
        const backends::Timeout timeout(limit);
        std::array<fd_set*, sets> pointers{};
        for (std::size_t set = 0; set < sets; ++set) {
            std::copy_n(wanted_[set].begin(), used_words_, ready_[set].begin());
            pointers[set] = reinterpret_cast<fd_set*>(ready_[set].data());
        }
        const int count = ::pselect(int(used_words_ * word_bits), pointers[0], pointers[1], pointers[2],
                                    timeout.get(), nullptr);
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

    Word wanted_at(std::size_t word) const noexcept { return wanted_[0][word] | wanted_[1][word] | wanted_[2][word]; }

    void grow(std::size_t descriptor) {
        const std::size_t words = std::max(descriptor / word_bits + 1, 2 * wanted_[0].size());
        for (std::size_t set = 0; set < sets; ++set) {
            wanted_[set].resize(words);
            ready_[set].resize(words);
        }
        generations_.resize(words * word_bits);
    }

    void collect(int count) {
        const std::size_t before = events_.size();
        bool asked_for_errors = false;
        for (std::size_t word = 0; count > 0 && word < used_words_; ++word) {
            const Word readable = ready_[0][word], writable = ready_[1][word], exceptional = ready_[2][word];
            for (Word left = readable | writable | exceptional; left != 0; left &= left - 1) {
                const Word bit = left & (~left + 1);
                const auto descriptor = word * word_bits + std::size_t(std::countr_zero(left));
                Condition condition = Condition::none;
                if (readable & bit) condition |= Condition::readable;
                if (writable & bit) condition |= Condition::writable;
                if (exceptional & bit) condition |= Condition::urgent;
                count -= std::popcount(std::uint32_t(condition));
                asked_for_errors = asked_for_errors || (wanted_[2][word] & bit);
                events_.push_back({{int(descriptor), generations_[descriptor]}, condition});
            }
        }
        if (asked_for_errors) tell_errors_apart(before);
    }

    // select reports a pending error as readable and writable. For those who asked for errors a poll of just
    // them finds out which it was.
    void tell_errors_apart(std::size_t first) {
        polled_.clear();
        std::vector<std::size_t> places;
        for (std::size_t i = first; i < events_.size(); ++i) {
            const auto descriptor = std::size_t(events_[i].token.descriptor);
            if (!(wanted_[2][descriptor / word_bits] >> (descriptor % word_bits) & 1)) continue;
            polled_.push_back(poll_entry(descriptor));
            places.push_back(i);
        }
        if (::poll(polled_.data(), nfds_t(polled_.size()), 0) < 0) return;
        for (std::size_t i = 0; i < places.size(); ++i) events_[places[i]].condition = backends::condition_of(polled_[i].revents);
    }

    // No set of select's wakes for an error on a descriptor that is watched for nothing else, and one bad
    // descriptor fails the whole call with EBADF. In these rare cases poll(2) asks the same question.
    std::span<const Event> wait_by_poll(std::optional<Duration> limit) {
        polled_.clear();
        for (std::size_t word = 0; word < used_words_; ++word)
            for (Word left = wanted_at(word); left != 0; left &= left - 1)
                polled_.push_back(poll_entry(word * word_bits + std::size_t(std::countr_zero(left))));
        const backends::Timeout timeout(limit);
        const int count = ::ppoll(polled_.data(), nfds_t(polled_.size()), timeout.get(), nullptr);
        if (count < 0 && errno != EINTR) throw std::system_error(errno, std::system_category(), "ppoll");
        if (count <= 0) return events_;
        for (const pollfd& entry : polled_)
            if (entry.revents != 0)
                events_.push_back({{entry.fd, generations_[std::size_t(entry.fd)]}, backends::condition_of(entry.revents)});
        return events_;
    }

    pollfd poll_entry(std::size_t descriptor) const noexcept {
        Interest wanted = Interest::none;
        for (std::size_t set = 0; set < sets; ++set)
            if (wanted_[set][descriptor / word_bits] >> (descriptor % word_bits) & 1) wanted |= interests[set];
        return {int(descriptor), backends::poll_events(wanted), 0};
    }

    std::array<std::vector<Word>, sets> wanted_, ready_;
    std::vector<std::uint32_t> generations_;
    std::size_t used_words_ = 0;   // all sets are empty behind these
    std::size_t error_only_ = 0;   // descriptors watched for nothing but errors
    std::vector<Event> events_;
    std::vector<pollfd> polled_;
};

}  // namespace

std::unique_ptr<Demultiplexer> make_select() { return std::make_unique<Select>(); }

}  // namespace reactor
