// Lifetime: a function finds out whether a call that it made destroyed its object.
#pragma once

namespace reactor {

/// A member of the object. Watches on it may be nested.
class Lifetime {
public:
    Lifetime() = default;
    Lifetime(const Lifetime&) = delete;
    Lifetime& operator=(const Lifetime&) = delete;
    ~Lifetime() {
        if (innermost_ != nullptr) innermost_->over_ = true;
    }

    /// A local variable of the function.
    class Watch {
    public:
        explicit Watch(Lifetime& lifetime) noexcept : lifetime_(lifetime), outer_(lifetime.innermost_) {
            lifetime.innermost_ = this;
        }
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        ~Watch() {
            if (!over_) {
                lifetime_.innermost_ = outer_;
            } else if (outer_ != nullptr) {
                outer_->over_ = true;
            }
        }
        bool over() const noexcept { return over_; }

    private:
        friend class Lifetime;
        Lifetime& lifetime_;
        Watch* outer_;
        bool over_ = false;
    };

private:
    Watch* innermost_ = nullptr;
};

}  // namespace reactor
