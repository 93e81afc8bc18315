// DescriptorWatch: a descriptor that belongs to another library, watched for one callable. The adapters beside it are
// built on it. It closes nothing.
#pragma once

#include <reactor/detail/callback.hpp>
#include <reactor/reactor.hpp>

#include <sys/stat.h>

#include <utility>

namespace reactor::adapters {

/// The interest of a library that has one flag for each direction.
constexpr Interest interest_in(bool reading, bool writing) noexcept {
    return (reading ? Interest::readable : Interest::none) | (writing ? Interest::writable : Interest::none);
}

/// A library's flag for what has come: one of these three.
template <class Flag>
constexpr Flag flag_of(Interest come, Flag readable, Flag writable, Flag error) noexcept {
    return come == Interest::readable ? readable : come == Interest::writable ? writable : error;
}

/// Watches at most one descriptor at a time. Calls its callable with `readable` or `writable`, and with `error` where
/// the descriptor cannot be watched any more. In its own call it may be destroyed, and watch another descriptor.
/// Thread: the loop's. Errors: those of Reactor::watch. Lifetime: must go before the reactor. The descriptor may be
/// closed first, and its number may be in use again by then.
class [[nodiscard]] DescriptorWatch final : EventHandler {
public:
    using Ready = MoveOnlyFunction<void(Interest)>;

    [[nodiscard]] DescriptorWatch(Reactor& reactor, Ready ready)
        : reactor_(reactor), ready_(required(std::move(ready), "DescriptorWatch: the callable is empty")) {}
    DescriptorWatch(const DescriptorWatch&) = delete;
    DescriptorWatch& operator=(const DescriptorWatch&) = delete;

    /// Watches this descriptor from now on, and nothing if it is negative.
    void watch(int descriptor, Interest interest) {
        reset();
        if (descriptor >= 0) registration_ = reactor_.watch(descriptor, interest, *this);
    }

    /// Watches it if nothing is watched, or else only changes the interest.
    void want(int descriptor, Interest interest) {
        registration_ ? registration_.set_interest(interest) : watch(descriptor, interest);
    }

    /// For a library that does not say when it has closed its socket and opened another one with the same number: looks
    /// which file it is (fstat(2)) and watches anew if it is another one. A socket has an inode of its own.
    void follow(int descriptor, Interest interest) {
        struct stat information {};
        const ino_t file = ::fstat(descriptor, &information) == 0 ? information.st_ino : 0;
        if (file == 0 || file != file_) watch(descriptor, interest);
        file_ = file;
        set_interest(interest);
    }

    /// Changes the interest in the descriptor that is watched, if there is one.
    void set_interest(Interest interest) noexcept {
        if (registration_) registration_.set_interest(interest);
    }
    void reset() noexcept {
        registration_.reset();
        file_ = 0;
    }
    explicit operator bool() const noexcept { return bool(registration_); }

private:
    // The callable may destroy this object.
    void readable() override { ready_(Interest::readable); }
    void writable() override { ready_(Interest::writable); }
    void lost(std::error_code) override { ready_(Interest::error); }

    Reactor& reactor_;
    Callback<void(Interest)> ready_;
    ino_t file_ = 0;  // for follow
    Registration registration_;
};

}  // namespace reactor::adapters
