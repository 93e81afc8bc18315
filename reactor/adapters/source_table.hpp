// SourceTable: the descriptors, times and deferred calls that a library has asked a loop for, each by an object of the
// library's. For libraries that are given a table of functions, and free their objects when they like: in the object's
// own call, and after the end of the adapter.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/timer.hpp>

#include <sys/time.h>

#include <chrono>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>

namespace reactor::adapters {

/// Calls for an object, until it is forgotten or all of them have ended. An object has one of the three kinds. In its
/// own call it may be forgotten, and all may end. Thread: the loop's. Errors: those of Reactor::watch, and
/// std::bad_alloc. Lifetime: `end` must come before the reactor goes; afterwards the table does nothing.
class SourceTable {
public:
    explicit SourceTable(Reactor& reactor) : reactor_(&reactor) {}
    SourceTable(const SourceTable&) = delete;
    SourceTable& operator=(const SourceTable&) = delete;

    /// Watches a descriptor from now on, or changes the interest if it does so already.
    void watch(const void* object, int descriptor, Interest interest, DescriptorWatch::Ready ready) try {
        if (reactor_ == nullptr) return;
        std::optional<DescriptorWatch>& watch = sources_[object].descriptor;
        if (!watch) watch.emplace(*reactor_, std::move(ready));
        watch->want(descriptor, interest);
    } catch (...) {
        forget(object);
        throw;
    }

    /// Calls once at this time of the wall clock, and not any more if it is null. The time becomes a delay at once: a
    /// wall clock that is set later moves no call. A time that has passed costs no iteration.
    template <class Call>
    void at(const void* object, const timeval* time, Call call) {
        forget(object);
        if (time == nullptr || reactor_ == nullptr) return;
        const auto then = std::chrono::seconds(time->tv_sec) + std::chrono::microseconds(time->tv_usec);
        const auto delay = then - std::chrono::system_clock::now().time_since_epoch();
        if (delay <= delay.zero()) return defer(object, std::move(call));
        sources_[object].later = reactor_->after(std::chrono::duration_cast<Duration>(delay), std::move(call));
    }

    /// Calls once, when this iteration ends.
    void defer(const void* object, MoveOnlyFunction<void()> call) {
        if (reactor_ != nullptr) sources_[object].soon = reactor_->defer(std::move(call));
    }

    void forget(const void* object) noexcept { sources_.erase(object); }

    void end() noexcept {
        reactor_ = nullptr;
        sources_.clear();
    }

    /// Null after the end.
    Reactor* reactor() const noexcept { return reactor_; }

private:
    struct Source {
        std::optional<DescriptorWatch> descriptor;
        Timer later;
        Deferred soon;
    };
    Reactor* reactor_;
    std::unordered_map<const void*, Source> sources_;
};

/// An object behind a pointer to an incomplete type of a library, `Theirs`. The library frees it, in its own call and
/// after the end of the adapter too, so it keeps what the adapter shares with it: a SourceTable `sources` and the
/// library's table of functions.
template <class Theirs, class Shared, class Call, class Destroyed = void*>
struct LibraryObject {
    std::shared_ptr<Shared> shared;
    Call call;
    void* data;
    int descriptor = -1;
    int happened = 0;                   // for Avahi, which asks in the call
    Destroyed destroyed = Destroyed();  // for PulseAudio, which wants a call

    /// A new one, whose `shared` the table of functions has as its data of the user's.
    static Theirs* add(void* shared, Call call, void* data, int descriptor = -1) {
        return (new LibraryObject{static_cast<Shared*>(shared)->shared_from_this(), call, data, descriptor})->theirs();
    }
    static LibraryObject* of(Theirs* object) noexcept { return reinterpret_cast<LibraryObject*>(object); }
    Theirs* theirs() noexcept { return reinterpret_cast<Theirs*>(this); }
};

}  // namespace reactor::adapters
