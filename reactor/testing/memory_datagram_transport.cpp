// The network of a test, in memory. Each of the test's calls changes one thing and then settles: it makes calls to the
// protocol until nothing is due, which is what a loop does over several iterations.
#include <reactor/testing/memory_datagram_transport.hpp>

#include <reactor/error.hpp>

#include <cstring>

namespace reactor::testing {

MemoryDatagramTransport::MemoryDatagramTransport(std::unique_ptr<DatagramProtocol> protocol, std::size_t queue_limit)
    : owned_(std::move(protocol)), protocol_(owned_.get()), queue_limit_(queue_limit) {
    attach(*protocol_, this);
    settle();
}

MemoryDatagramTransport::MemoryDatagramTransport(DatagramProtocol& protocol, std::size_t queue_limit)
    : protocol_(&protocol), queue_limit_(queue_limit) {
    attach(protocol, this);
    settle();
}

void MemoryDatagramTransport::feed(const Datagram& datagram, std::vector<FileDescriptor> descriptors) {
    if (!told_) {
        incoming_.push_back({datagram, std::string(text_of(datagram.data)), std::move(descriptors)});
        incoming_.back().datagram.data = {};
    }
    settle();
}

void MemoryDatagramTransport::feed(std::string_view data, const Address& sender) {
    Datagram datagram;
    datagram.data = bytes_of(data);
    datagram.sender = sender;
    feed(datagram);
}

void MemoryDatagramTransport::refuse(const Address& to, std::error_code error) {
    refusals_.emplace_back(to, error);
    settle();
}

void MemoryDatagramTransport::drain(std::size_t datagrams) {
    constexpr std::size_t all = std::numeric_limits<std::size_t>::max();
    window_ = datagrams > all - window_ ? all : window_ + datagrams;
    settle();
}

void MemoryDatagramTransport::fail(std::error_code reason) {
    if (!failed_) failed_ = reason;
    settle();
}

void MemoryDatagramTransport::set_addresses(const Address& local, const Address& peer) {
    local_ = local;
    peer_ = peer;
}

bool MemoryDatagramTransport::send(const Route& route, Bytes data) {
    if (told_ || closing_) return false;
    if (queued_ >= queue_limit_) {
        ++dropped_;
        wants_room_ = true;
        return false;
    }
    queued_ += data.size();
    queue_.push_back({route, std::string(text_of(data)), {}});
    flush();
    return true;
}

bool MemoryDatagramTransport::send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) {
    if (told_ || closing_) return false;
    if (!queue_.empty() || !take_room()) {
        ++dropped_;
        return false;
    }
    sent_.push_back({route, std::string(text_of(data)), {descriptors.begin(), descriptors.end()}});
    return true;
}

void MemoryDatagramTransport::settle() {
    if (settling_) return;  // the call that this one is inside of goes on
    struct Settling {       // also if something is thrown
        MemoryDatagramTransport& transport;
        explicit Settling(MemoryDatagramTransport& owner) noexcept : transport(owner) { transport.settling_ = true; }
        ~Settling() {
            transport.settling_ = false;
            if (transport.told_) transport.owned_.reset();
        }
    } const settling(*this);
    try {
        while (step()) {
        }
    } catch (...) {
        if (!told_) finish(Error::exception);
        throw;
    }
}

/// Makes one call of the protocol. False if none is due.
bool MemoryDatagramTransport::step() {
    if (told_) return false;
    if (!opened_) {
        opened_ = true;
        protocol_->opened();
        return true;
    }
    flush();
    if (failed_ || closing_) return finish(failed_.value_or(std::error_code())), true;
    if (!refusals_.empty()) {
        const auto refusal = std::move(refusals_.front());
        refusals_.pop_front();
        protocol_->refused(refusal.first, refusal.second);
        return true;
    }
    if (wants_room_ && queued_ <= queue_limit_ / 2) {
        wants_room_ = false;
        protocol_->resume_sending();
        return true;
    }
    if (paused_ || incoming_.empty()) return false;
    deliver();
    return true;
}

void MemoryDatagramTransport::deliver() {
    Incoming next = std::move(incoming_.front());
    incoming_.pop_front();
    const auto exact = std::make_unique<std::byte[]>(next.data.size());
    std::memcpy(exact.get(), next.data.data(), next.data.size());
    next.datagram.data = {exact.get(), next.data.size()};
    next.datagram.descriptors = next.descriptors;
    protocol_->received(next.datagram);
}

void MemoryDatagramTransport::finish(std::error_code reason) {
    told_ = reason;
    incoming_.clear();
    refusals_.clear();
    queue_.clear();
    queued_ = 0;
    protocol_->closed(reason);
}

bool MemoryDatagramTransport::take_room() noexcept {
    if (window_ == 0) return false;
    if (window_ != std::numeric_limits<std::size_t>::max()) --window_;
    return true;
}

void MemoryDatagramTransport::flush() {
    while (!queue_.empty() && take_room()) {
        queued_ -= queue_.front().data.size();
        sent_.push_back(std::move(queue_.front()));
        queue_.pop_front();
    }
}

}  // namespace reactor::testing
