// The connection resumes its coroutine; the end of either ends the other.
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

namespace reactor {

namespace coroutine_detail {

namespace {

std::size_t saturated_sum(std::size_t a, std::size_t b) noexcept {
    return b > std::numeric_limits<std::size_t>::max() - a ? std::numeric_limits<std::size_t>::max() : a + b;
}

// For an operation whose Stream is gone.
Stream& no_stream() noexcept {
    static Stream none;
    return none;
}

}  // namespace

struct StreamProtocol::Extra final : Branch {
    explicit Extra(StreamProtocol& the_owner) noexcept : owner(the_owner) {}
    // The bytes that were gathered have left meanwhile: they pass the high watermark only while they wait, and
    // then nothing calls resume_writing().
    void completed() override { owner.writers_go_on(false); }

    StreamProtocol& owner;
    StopState stop;
    Link look_again;
    WriteOperation* first_writer = nullptr;
};

StreamProtocol::StreamProtocol() noexcept = default;
StreamProtocol::StreamProtocol(ConnectWaiter& waiter) noexcept : waiter_(&waiter) {}

StreamProtocol::~StreamProtocol() {
    if (waiter_ != nullptr) waiter_->gone();
    if (stream_ != nullptr) stream_->end(std::make_error_code(std::errc::operation_canceled));
    if (reader_ != nullptr) reader_->continuation_ = {};
    for (WriteOperation* writer = extra_ == nullptr ? nullptr : extra_->first_writer; writer != nullptr;) {
        writer->continuation_ = {};
        writer = std::exchange(writer->next_, nullptr);
    }
    reader_ = nullptr;
    task_ = {};
}

// ── from the transport ──

void StreamProtocol::connected() {
    if (waiter_ != nullptr) return std::exchange(waiter_, nullptr)->connected(*this);
    if (!task_) return transport().close();  // its connect was given up
    task_.coroutine().promise().root = this;
    resume(Continuation(task_.coroutine()));
}

std::size_t StreamProtocol::received(Bytes input) {
    if (reader_ == nullptr) [[unlikely]]
        return pause(), 0;
    Delivery delivery(input);
    deliver(delivery, false);
    if (!delivery.input.empty() && reader_ == nullptr) [[unlikely]]
        pause();
    return input.size() - delivery.input.size();
}

void StreamProtocol::end_of_stream() {
    ended_ = true;
    if (reader_ == nullptr) return;
    Delivery delivery(transport().unconsumed());
    deliver(delivery, true);
}

inline void StreamProtocol::deliver(Delivery& delivery, bool at_end) {
    struct Place {
        Delivery*& place;
        ~Place() { place = nullptr; }
    } const place{delivery_};
    delivery_ = &delivery;
    Reader& reader = *reader_;
    if (!reader.take_(reader, delivery, at_end)) return;
    reader_ = nullptr;
    resume(std::exchange(reader.continuation_, Continuation()));
}

void StreamProtocol::draining() {
    if (extra_ != nullptr && extra_->stop.used) return extra_->stop.ask(ReadyList::of(reactor()));
    task_ = {};
    transport().close();
    ended_ = true;
    if (reader_ == nullptr) return;  // of a Stream that is not the task's
    Delivery nothing{Bytes()};
    delivery_ = &nothing;
    nothing.fail(std::make_error_code(std::errc::operation_canceled));
    resume_reader();
    delivery_ = nullptr;
}

void StreamProtocol::disconnected(std::error_code reason) {
    if (waiter_ != nullptr) return std::exchange(waiter_, nullptr)->failed(reason);
    if (stream_ != nullptr) stream_->end(reason ? reason : Error::end_of_stream);
    stream_ = nullptr;
    if (reader_ != nullptr) resume_reader();
    writers_go_on(true);
    task_ = {};
}

void StreamProtocol::resume_reader() {
    Reader& reader = *std::exchange(reader_, nullptr);
    resume(std::exchange(reader.continuation_, Continuation()));
}

void StreamProtocol::resume_writing() {
    writers_go_on(false);
}

// ── the task ──

void StreamProtocol::finished() {
    const std::exception_ptr failure = std::move(task_.coroutine().promise().exception);
    if (failure) transport().abort(Error::exception);
    task_ = {};  // its Stream closes
    if (failure) std::rethrow_exception(failure);
}

StreamProtocol::Extra& StreamProtocol::extra() {
    if (extra_ == nullptr) extra_ = std::make_unique<Extra>(*this);
    return *extra_;
}

StopState& StreamProtocol::stop_state() {
    return extra().stop;
}

// The operations that wait belong to the Stream `now`; `holder` is the user's, if it is none.
void StreamProtocol::hold(Stream& now, Stream* holder) noexcept {
    stream_ = holder;
    if (reader_ != nullptr) reader_->stream_ = &now;
    for (WriteOperation* writer = extra_ == nullptr ? nullptr : extra_->first_writer; writer; writer = writer->next_)
        writer->stream_ = &now;
}

// ── reading ──

// There is input, and no read waits for it.
void StreamProtocol::pause() noexcept {
    paused_ = true;
    transport().pause_reading();
}

// A read begins to wait, and it is not the ordinary case.
void StreamProtocol::go_on() {
    if (reader_ != nullptr) throw std::logic_error("Stream: a second read while one waits");
    paused_ = false;
    transport().resume_reading();
}

bool Reader::ready_in_call(StreamProtocol& protocol) {
    return protocol.transport().reading() && take_(*this, *protocol.delivery_, false);
}

// The connection is over, the read failed, or the end has come when no read waited.
Result<Bytes> Reader::result_unusual() {
    StreamProtocol* const protocol = stream_->protocol();
    if (protocol == nullptr) return stream_->error();
    if (protocol->delivery_ != nullptr && protocol->delivery_->state == Delivery::State::failed) {
        protocol->delivery_->state = Delivery::State::nothing;
        return protocol->delivery_->error;
    }
    Delivery rest{Bytes()};
    if (!take_(*this, rest, true) || rest.state != Delivery::State::message) return rest.error;
    return rest.message;
}

void Reader::leave() noexcept {
    StreamProtocol* const protocol = stream_->protocol();
    if (protocol == nullptr || protocol->reader_ != this) return;
    protocol->reader_ = nullptr;
    // What there is of a message is for the next read.
    if (protocol->delivery_ == nullptr && !protocol->transport().unconsumed().empty()) protocol->pause();
}

Transport& Reader::transport() const noexcept {
    return stream_->protocol()->transport();
}

// A message must fit into what may be left unconsumed, with one read behind it.
void Reader::make_room(std::size_t longest) {
    Transport& transport = this->transport();
    const std::size_t needed = saturated_sum(longest, transport.limits().read_size);
    if (transport.limits().input_limit >= needed) return;
    Limits limits = transport.limits();
    limits.input_limit = needed;
    transport.set_limits(limits);
}

bool ReadExactly::take(Delivery& delivery, bool at_end) {
    if (delivery.input.size() >= size_) return delivery.take(delivery.input.first(size_), size_), true;
    if (at_end) return delivery.fail(delivery.input.empty() ? Error::end_of_stream : Error::ended_inside_message), true;
    make_room(size_);
    return false;
}

bool ReadUntilEnd::take(Delivery& delivery, bool at_end) {
    const std::size_t size = delivery.input.size();
    if (size > most_) return delivery.fail(Error::message_too_long), true;
    if (at_end) return delivery.take(delivery.input, size), true;
    make_room(most_);
    return false;
}

// ── writing ──

bool StreamProtocol::measure_room() noexcept {
    const std::size_t high = transport().limits().high_mark;
    const std::size_t queued = transport().queued();
    credit_ = 0;
    if (queued > high) return false;
    credit_ = std::int64_t(std::min<std::size_t>(high - queued, 1 << 30));
    return true;
}

void StreamProtocol::wait_for_room(WriteOperation& operation) noexcept {
    WriteOperation** place = &extra_->first_writer;
    while (*place != nullptr) place = &(*place)->next_;
    *place = &operation;
    extra_->look_again.continuation = Continuation(*extra_);
    ReadyList::of(reactor()).push_behind(extra_->look_again);
}

void StreamProtocol::writers_go_on(bool over) {
    while (extra_ != nullptr && extra_->first_writer != nullptr && (over || measure_room())) {
        WriteOperation& writer = *extra_->first_writer;
        extra_->first_writer = std::exchange(writer.next_, nullptr);
        resume(std::exchange(writer.continuation_, Continuation()));
    }
}

// Without memory to wait it goes on at once; Limits::output_limit holds.
bool WriteOperation::must_wait() noexcept {
    StreamProtocol* const protocol = stream_->protocol();
    if (protocol == nullptr || !protocol->transport().open()) return false;
    try {
        (void)ReadyList::of(protocol->reactor());
        (void)protocol->extra();
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

void WriteOperation::leave() noexcept {
    StreamProtocol* const protocol = stream_->protocol();
    if (protocol == nullptr) return;
    for (WriteOperation** place = &protocol->extra_->first_writer; *place != nullptr; place = &(*place)->next_) {
        if (*place != this) continue;
        *place = next_;
        return;
    }
}

}  // namespace coroutine_detail

// ── Stream ──

using coroutine_detail::StreamProtocol;

void Stream::end(std::error_code reason) noexcept {
    category_ = &reason.category();
    value_ = reason.value();
    over_ = true;
}

// Operations that wait keep to the Stream where it is now.
void Stream::take(Stream& other) noexcept {
    value_ = other.value_;
    over_ = other.over_;
    if (over_) {
        category_ = other.category_;
        return;
    }
    protocol_ = other.protocol_;
    protocol_->hold(*this, this);
    other.end(std::make_error_code(std::errc::not_connected));
}

void Stream::leave() noexcept {
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return;
    protocol->hold(coroutine_detail::no_stream(), nullptr);
    end(std::make_error_code(std::errc::not_connected));
    protocol->transport().close();
}

StreamProtocol& Stream::connected() const {
    if (over_) throw std::system_error(error(), "Stream");
    return *protocol_;
}

coroutine_detail::WriteOperation Stream::write_file(FileDescriptor file, std::uint64_t offset, std::uint64_t length) {
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return {*this, false, true};
    const bool accepted = protocol->transport().write_file(std::move(file), offset, length);
    return {*this, accepted, protocol->measure_room()};
}

void Stream::shutdown_write() {
    if (!over_) protocol_->transport().shutdown_write();
}

void Stream::close() {
    if (over_) return;
    protocol_->transport().close();
    protocol_->ended_ = true;
    if (protocol_->delivery_ != nullptr) protocol_->delivery_->input = {};
}

void Stream::abort(std::error_code reason) {
    if (over_) return;
    protocol_->transport().abort(reason);
    protocol_->ended_ = true;
    if (protocol_->delivery_ != nullptr) protocol_->delivery_->input = {};
}

Address Stream::peer() const {
    return over_ ? Address() : protocol_->transport().peer();
}
Address Stream::local() const {
    return over_ ? Address() : protocol_->transport().local();
}
Limits Stream::limits() const {
    return connected().transport().limits();
}
void Stream::set_limits(const Limits& limits) {
    connected().transport().set_limits(limits);
    protocol_->credit_ = 0;
}
Reactor& Stream::reactor() const {
    return connected().transport().reactor();
}
Transport& Stream::transport() const {
    return connected().transport();
}

}  // namespace reactor
