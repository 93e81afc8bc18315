// The words of kqueue(2) in those of this library. It is pure, and its events are a plain structure, so that it is
// tested on systems without kqueue.
//
// The queue has a filter for each direction, and an event for each filter. EV_EOF is about one direction: of the
// reading one, bytes may still be there, so only a recv of 0 is the end. Both ends together are what poll(2) calls a
// hang-up.
#pragma once

#include <reactor/demultiplexer.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace reactor::backends {

/// A struct kevent, without what means nothing here.
struct FilterEvent {
    enum class Filter : std::uint8_t { read, write };

    Token token;
    Filter filter = Filter::read;
    bool end = false;      ///< EV_EOF
    int error = 0;         ///< of EV_EOF the socket's error (fflags); of EV_ERROR the reason (data)
    bool refused = false;  ///< EV_ERROR
};

/// Of one filter alone.
constexpr Condition condition_of(const FilterEvent& event) noexcept {
    if (event.refused) return event.error == EBADF ? Condition::invalid : Condition::none;
    Condition condition = event.filter == FilterEvent::Filter::read ? Condition::readable : Condition::writable;
    if (event.end && event.error != 0) condition |= Condition::failed;
    return condition;
}

/// The fate of a filter that was to be added or removed.
enum class Answer {
    done,
    ask_poll,  ///< the queue does not take such a file: poll(2) is asked at each wait
    refused,   ///< it cannot be watched
};

/// The meaning of a change's errno. A filter that is to be removed may have gone with its descriptor, which close(2)
/// removes from the queue without a word. EPIPE: the pipe's reader is gone, so poll(2) says that it is broken.
constexpr Answer answer_to(bool removing, int error) noexcept {
    if (error == 0 || removing) return Answer::done;
    switch (error) {
        case EINVAL:
        case ENODEV:
        case ENXIO:
        case EOPNOTSUPP:
        case EPERM:
        case EPIPE: return Answer::ask_poll;
        default: return Answer::refused;
    }
}

/// Makes one event a token of a batch of filters' events.
class FilterMerger {
public:
    /// Adds to `events`, which is empty, what `batch` says.
    void merge(std::span<const FilterEvent> batch, std::vector<Event>& events) {
        for (const FilterEvent& one : batch) {
            const Condition condition = condition_of(one);
            const auto descriptor = std::size_t(one.token.descriptor);
            if (condition == Condition::none) continue;
            if (descriptor >= places_.size()) places_.resize(descriptor + 1);
            Place& place = places_[descriptor];
            if (place.index >= events.size() || events[place.index].token != one.token) {
                place = {events.size(), false};
                events.emplace_back(one.token, condition);
            } else {
                events[place.index].condition |= condition;
                if (place.ended && one.end) events[place.index].condition |= Condition::hangup;
            }
            place.ended = one.end;
        }
    }

private:
    struct Place {
        std::size_t index = 0;  // in the batch, if the event there has this token
        bool ended = false;
    };
    std::vector<Place> places_;  // by descriptor
};

}  // namespace reactor::backends
