// The user's end of a connection, and the reason of its end.
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>

#include <atomic>
#include <optional>
#include <utility>

namespace reactor {

using coroutine_detail::StreamProtocol;

namespace {

// For an operation whose Stream is gone.
Stream& no_stream() noexcept {
    static Stream none;
    return none;
}

// The categories of errors by number, as far as there are places: programs have a handful.
constexpr std::size_t most_categories = 64;
std::atomic<const std::error_category*> categories[most_categories];

// Its number; nullopt if there is no place for it.
std::optional<std::size_t> number_of(const std::error_category& category) noexcept {
    for (std::size_t number = 0; number < most_categories; ++number) {
        const std::error_category* there = nullptr;
        if (categories[number].compare_exchange_strong(there, &category) || *there == category) return number;
    }
    return std::nullopt;
}

std::uint64_t packed(std::error_code error) noexcept {
    const std::optional<std::size_t> number = number_of(error.category());
    if (!number) return packed(std::make_error_code(std::errc::io_error));
    return std::uint64_t(std::uint32_t(error.value())) << 32 | std::uint64_t(*number + 1) << 1;
}

}  // namespace

Stream::Stream(StreamProtocol& protocol) noexcept : bits_(reinterpret_cast<std::uintptr_t>(&protocol)) {
    protocol.stream_ = this;
}

// Number 0: not_connected, of a Stream that never was.
std::error_code Stream::error() const noexcept {
    if (!over()) return {};
    const std::size_t number = std::size_t(std::uint32_t(bits_) >> 1);
    const int value = int(std::uint32_t(bits_ >> 32));
    return {value, number == 0 ? std::generic_category() : *categories[number - 1].load()};
}

void Stream::end(std::error_code reason) noexcept {
    bits_ = packed(reason) | is_over;
}

// Operations that wait keep to the Stream where it is now.
void Stream::take(Stream& other) noexcept {
    bits_ = other.bits_;
    if (over()) return;
    protocol()->hold(*this, this);
    other.bits_ = Stream().bits_;
}

void Stream::leave() noexcept {
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return;
    protocol->hold(no_stream(), nullptr);
    bits_ = Stream().bits_;
    protocol->transport().close();
}

StreamProtocol& Stream::connected() const {
    if (over()) throw std::system_error(error(), "Stream");
    return *protocol();
}

coroutine_detail::WriteOperation Stream::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return {*this, false, true};
    const bool accepted = protocol->transport().write_file(std::move(file), offset, length);
    return {*this, accepted, protocol->measure_room()};
}

void Stream::shutdown_write() {
    if (!over()) protocol()->transport().shutdown_write();
}

void Stream::close() {
    if (over()) return;
    protocol()->transport().close();
    protocol()->set(StreamProtocol::ended | StreamProtocol::canceled);
    protocol()->unset(StreamProtocol::has_input);
}

void Stream::abort(std::error_code reason) {
    if (over()) return;
    protocol()->transport().abort(reason);
    protocol()->set(StreamProtocol::ended | StreamProtocol::canceled);
    protocol()->unset(StreamProtocol::has_input);
}

Address Stream::peer() const {
    return over() ? Address() : protocol()->transport().peer();
}
Address Stream::local() const {
    return over() ? Address() : protocol()->transport().local();
}
Limits Stream::limits() const {
    return connected().transport().limits();
}
void Stream::set_limits(const Limits& limits) {
    connected().transport().set_limits(limits);
    protocol()->credit_ = 0;
}
Reactor& Stream::reactor() const {
    return connected().transport().reactor();
}
Transport& Stream::transport() const {
    return connected().transport();
}

}  // namespace reactor
