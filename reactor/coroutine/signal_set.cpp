// Signals are kept until a task takes them.
#include <reactor/coroutine/signal_set.hpp>

#include <algorithm>

namespace reactor {

SignalSet::SignalSet(Reactor& reactor, std::initializer_list<int> signals)
    : signals_(reactor, signals, [this](int signal) { arrived(signal); }) {
    pending_.reserve(signals.size());
}

void SignalSet::arrived(int signal) noexcept {
    if (std::find(pending_.begin(), pending_.end(), signal) == pending_.end()) pending_.push_back(signal);
    arrived_.set();
}

Task<int> SignalSet::wait() {
    while (pending_.empty()) co_await arrived_.wait();  // another task may have been faster
    const int signal = pending_.front();
    pending_.erase(pending_.begin());
    if (pending_.empty()) arrived_.reset();
    co_return signal;
}

}  // namespace reactor
