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
        // g++ 14 says that the pointer stays behind: it does where the object that has it is gone.
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdangling-pointer"
#endif
        explicit Watch(Lifetime& lifetime) noexcept : lifetime_(lifetime), outer_(lifetime.innermost_) {
            lifetime.innermost_ = this;
        }
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#pragma GCC diagnostic pop
#endif
        Watch(const Watch&) = delete;
        Watch& operator=(const Watch&) = delete;
        ~Watch() {
            if (!over_) {
                lifetime_.innermost_ = outer_;
            } else if (outer_ != nullptr) {
                outer_->over_ = true;
            }
        }
        bool over() const noexcept {
            return over_;
        }

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
