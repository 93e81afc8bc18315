// Semaphore: at most so many tasks do something at a time.
#pragma once

#include <reactor/coroutine/detail/ready_list.hpp>

#include <cstddef>
#include <utility>

namespace reactor {

/// Gives out permits: `const auto permit = co_await semaphore.acquire();`. A permit goes back when it is destroyed, and
/// the task that has waited longest gets it. A task that is destroyed before it was resumed gives back what it was
/// given. Thread: the loop's. Lifetime: must outlive its permits; tasks that wait when it is destroyed are never
/// resumed.
class Semaphore {
public:
    explicit Semaphore(std::size_t permits) noexcept : left_(permits) {}
    Semaphore(const Semaphore&) = delete;
    Semaphore& operator=(const Semaphore&) = delete;

    /// One of the permits, or none if it was moved.
    class [[nodiscard]] Permit {
    public:
        Permit(Permit&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
        Permit& operator=(Permit&& other) noexcept {
            std::swap(semaphore_, other.semaphore_);
            return *this;
        }
        ~Permit() {
            if (semaphore_ != nullptr) semaphore_->give_back();
        }

    private:
        friend class Semaphore;
        explicit Permit(Semaphore& semaphore) noexcept : semaphore_(&semaphore) {}
        Semaphore* semaphore_;
    };

    class AcquireOperation;
    AcquireOperation acquire() noexcept;
    /// Permits that nothing holds and no task waits for.
    std::size_t left() const noexcept { return left_; }

private:
    inline void give_back() noexcept;

    std::size_t left_;
    coroutine_detail::LinkList waiting_;
};

class Semaphore::AcquireOperation : public coroutine_detail::Operation<Semaphore::AcquireOperation> {
public:
    AcquireOperation(AcquireOperation&& other) noexcept : semaphore_(other.semaphore_) {}
    ~AcquireOperation() {
        if (granted_) semaphore_.give_back();
    }

    bool ready() noexcept {
        if (semaphore_.left_ == 0) return false;
        --semaphore_.left_;
        return granted_ = true;
    }
    void start(coroutine_detail::Root& root, coroutine_detail::Continuation continuation) {
        place_.ready = &coroutine_detail::ReadyList::of(root.reactor());
        place_.operation = this;
        place_.continuation = continuation;
        semaphore_.waiting_.push_back(place_);
    }
    Permit result() noexcept {
        granted_ = false;
        return Permit(semaphore_);
    }

private:
    friend class Semaphore;
    struct Place : coroutine_detail::Link {
        coroutine_detail::ReadyList* ready = nullptr;
        AcquireOperation* operation = nullptr;
    };
    explicit AcquireOperation(Semaphore& semaphore) noexcept : semaphore_(semaphore) {}

    Semaphore& semaphore_;
    Place place_;
    bool granted_ = false;  // and not taken by the task yet
};

inline Semaphore::AcquireOperation Semaphore::acquire() noexcept {
    return AcquireOperation(*this);
}

inline void Semaphore::give_back() noexcept {
    if (waiting_.empty()) {
        ++left_;
        return;
    }
    auto& place = static_cast<AcquireOperation::Place&>(waiting_.front());
    place.operation->granted_ = true;
    place.ready->push(place);
}

}  // namespace reactor
