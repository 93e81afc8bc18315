// The memory of a connection, and the order in which a protocol hears of what happens to it.
#include <reactor/testing/memory_transport.hpp>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace reactor::testing {

namespace {

struct Flag {
    bool& flag;
    explicit Flag(bool& which) noexcept : flag(which) { flag = true; }
    ~Flag() { flag = false; }
    Flag(const Flag&) = delete;
    Flag& operator=(const Flag&) = delete;
};

}  // namespace

MemoryTransport::MemoryTransport(std::unique_ptr<Protocol> protocol, const Limits& limits)
    : owned_(std::move(protocol)), protocol_(owned_.get()), limits_(limits) {
    attach(*protocol_, this);
    settle();
}

MemoryTransport::MemoryTransport(Protocol& protocol, const Limits& limits)
    : protocol_(&protocol), limits_(limits) {
    attach(protocol, this);
    settle();
}

void MemoryTransport::feed(Bytes data) {
    if (peer_ended_) throw std::logic_error("a peer that has shut its side sends nothing more");
    if (!told_ && !broken_) incoming_ += text_of(data);
    settle();
}

void MemoryTransport::end() {
    peer_ended_ = true;
    settle();
}

void MemoryTransport::reset(std::error_code reason) {
    if (!broken_) broken_ = reason;
    settle();
}

void MemoryTransport::fill() {
    window_ = 0;
}

void MemoryTransport::drain(std::size_t bytes) {
    window_ = bytes > std::numeric_limits<std::size_t>::max() - window_
                  ? std::numeric_limits<std::size_t>::max()
                  : window_ + bytes;
    settle();
}

void MemoryTransport::drain() {
    drain(std::numeric_limits<std::size_t>::max());
}

std::string MemoryTransport::take() {
    return std::exchange(output_, {});
}

void MemoryTransport::set_addresses(const Address& peer, const Address& local) {
    peer_ = peer;
    local_ = local;
}

bool MemoryTransport::write(Bytes data) {
    if (told_ || aborted_ || write_shut_) return false;
    if (queue_.size() >= limits_.output_limit) {
        abort(Error::output_limit);
        return false;
    }
    queue_ += text_of(data);
    if (!inside_) flush();
    if (queue_.size() > limits_.high_mark) high_ = true;
    if (high_ && receiving_) held_back_ = true;
    return true;
}

void MemoryTransport::shutdown_write() {
    write_shut_ = true;
    if (!inside_) flush();
}

void MemoryTransport::close() {
    closing_ = true;
    shutdown_write();
}

void MemoryTransport::abort(std::error_code reason) {
    if (told_ || aborted_) return;
    aborted_ = reason;
    was_reset_ = true;
    queue_.clear();
}

void MemoryTransport::pause_reading() {
    paused_ = true;
}

void MemoryTransport::resume_reading() {
    if (std::exchange(paused_, false)) again_ = true;
}

bool MemoryTransport::reading() const noexcept {
    return connected_ && !paused_ && !held_back_ && !closing_ && !aborted_ && !told_;
}

void MemoryTransport::set_limits(const Limits& limits) {
    limits_ = limits;
    if (queue_.size() > limits_.high_mark) high_ = true;
}

void MemoryTransport::settle() {
    if (settling_) return;  // the call that this one is inside of goes on
    const Flag settling(settling_);
    struct Last {  // also if something is thrown
        MemoryTransport& transport;
        ~Last() {
            if (transport.told_) transport.owned_.reset();
        }
    } const last{*this};
    resumed_ = false;
    try {
        while (step()) {
        }
    } catch (...) {
        abort(Error::exception);
        if (!told_) finish(*aborted_);
        throw;
    }
}

/// Tells the protocol of one thing, in the order in which a connection would. False if there is nothing to
/// tell.
bool MemoryTransport::step() {
    if (told_) return false;
    if (!connected_) {
        connected_ = true;
        const Flag inside(inside_);
        protocol_->connected();
        return true;
    }
    if (aborted_) return finish(*aborted_), true;
    flush();
    if (closing_) return step_of_closing();
    if (high_ && !pause_told_) {
        pause_told_ = true;
        const Flag inside(inside_);
        protocol_->pause_writing();
        return true;
    }
    if (high_ && queue_.size() <= limits_.low_mark && !resumed_) {
        high_ = held_back_ = pause_told_ = false;
        resumed_ = true;
        const Flag inside(inside_);
        protocol_->resume_writing();
        return true;
    }
    if (reading() && (!incoming_.empty() || (again_ && !rest_.empty()))) {
        deliver();
        return true;
    }
    // A pause holds back an end and a reset alike: nobody looks. Who cannot write notices a reset.
    if (broken_ && (reading() || (held_back_ && !paused_))) return finish(*broken_), true;
    if (reading() && peer_ended_ && !end_told_) {
        end_told_ = true;
        const Flag inside(inside_);
        protocol_->end_of_stream();
        rest_.clear();
        return true;
    }
    if (end_told_ && ended()) return finish({}), true;
    return false;
}

bool MemoryTransport::step_of_closing() {
    incoming_.clear();
    rest_.clear();
    if (broken_) return finish(*broken_), true;
    if (peer_ended_ && queue_.empty()) return finish({}), true;
    return false;
}

void MemoryTransport::deliver() {
    again_ = false;
    resumed_ = false;
    const std::size_t size = std::min(incoming_.size(), std::max(limits_.read_size, std::size_t(1)));
    rest_.append(incoming_, 0, size);
    incoming_.erase(0, size);
    const std::size_t consumed = call_received();
    if (consumed > rest_.size()) throw std::logic_error("received() consumed more than it was given");
    rest_.erase(0, consumed);
    // What was left because the reading had stopped is given again when it goes on.
    if (!reading()) again_ = true;
    if (rest_.size() > limits_.input_limit) abort(Error::input_limit);
}

std::size_t MemoryTransport::call_received() {
    struct Receiving {
        bool& flag;
        explicit Receiving(bool& which) noexcept : flag(which) { flag = true; }
        ~Receiving() { flag = false; }
    } receiving(receiving_);
    const Flag inside(inside_);
    constexpr std::size_t small = 4096;
    if (rest_.size() > small) return protocol_->received(bytes_of(rest_));
    const auto exact = std::make_unique<std::byte[]>(rest_.size());
    std::memcpy(exact.get(), rest_.data(), rest_.size());
    return protocol_->received({exact.get(), rest_.size()});
}

void MemoryTransport::finish(std::error_code reason) {
    told_ = reason;
    queue_.clear();
    incoming_.clear();
    rest_.clear();
    const Flag inside(inside_);
    protocol_->disconnected(reason);
}

void MemoryTransport::flush() {
    const std::size_t size = std::min(window_, queue_.size());
    output_.append(queue_, 0, size);
    queue_.erase(0, size);
    if (window_ != std::numeric_limits<std::size_t>::max()) window_ -= size;
}

void converse(MemoryTransport& one, MemoryTransport& other) {
    const auto carry = [](MemoryTransport& from, MemoryTransport& to, bool& ended) {
        bool moved = false;
        if (std::string data = from.take(); !data.empty() && !to.disconnected()) {
            to.feed(data);
            moved = true;
        }
        if (!ended && (from.ended() || from.was_reset())) {
            ended = moved = true;
            from.was_reset() ? to.reset() : to.end();
        }
        return moved;
    };
    bool one_ended = false;
    bool other_ended = false;
    for (bool moved = true; moved;) {
        moved = carry(one, other, one_ended);
        moved = carry(other, one, other_ended) || moved;
    }
}

}  // namespace reactor::testing
