// The connection resumes its coroutine; the end of either ends the other.
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <atomic>
#include <limits>
#include <new>
#include <optional>
#include <utility>
#include <vector>

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
    explicit Extra(StreamProtocol& the_owner) noexcept : owner(the_owner) { root = &the_owner; }
    // The bytes that were gathered have left meanwhile: they pass the high watermark only while they wait, and
    // then nothing calls resume_writing().
    void completed() override { owner.writers_go_on(false); }

    StreamProtocol& owner;
    StopState stop;
    Link look_again;
    std::vector<WriteOperation*> writers;
};

StreamProtocol::StreamProtocol() noexcept = default;
StreamProtocol::StreamProtocol(ConnectWaiter& waiter) noexcept : connecting_(true), waiter_(&waiter) {}

StreamProtocol::~StreamProtocol() {
    if (ConnectWaiter* const waiter = take_waiter()) waiter->gone();
    if (stream_ != nullptr) stream_->end(std::make_error_code(std::errc::operation_canceled));
    if (reader_ != nullptr) reader_->continuation_ = {};
    reader_ = nullptr;
    if (extra_ != nullptr) {
        for (WriteOperation* const writer : extra_->writers) writer->continuation_ = {};
    }
    task_ = {};
}

ConnectWaiter* StreamProtocol::take_waiter() noexcept {
    if (!connecting_) return nullptr;
    connecting_ = false;
    ConnectWaiter* const waiter = waiter_;
    reader_ = nullptr;
    return waiter;
}

// ── from the transport ──

void StreamProtocol::connected() {
    if (ConnectWaiter* const waiter = take_waiter()) return waiter->connected(*this);
    if (!task_) return transport().close();  // its connect was given up
    task_.coroutine().promise().root = this;
    resume(Continuation(task_.coroutine()));
}

std::size_t StreamProtocol::received(Bytes input) {
    if (reader_ == nullptr) [[unlikely]]
        return pause(), 0;
    struct Over {  // also if something is thrown
        Bytes& input;
        ~Over() { input = {}; }
    } const over{input_};
    input_ = input;
    if (!reader_takes_ || take(false)) resume_reader();
    if (!input_.empty() && reader_ == nullptr) [[unlikely]]
        pause();
    return input.size() - input_.size();
}

// Does the reader find something to take?
bool StreamProtocol::take(bool at_end) {
    TakingReader& reader = static_cast<TakingReader&>(*reader_);
    return reader.take_(reader, input_, at_end);
}

inline void StreamProtocol::resume_reader() {
    Reader& reader = *std::exchange(reader_, nullptr);
    resume(std::exchange(reader.continuation_, Continuation()));
}

void StreamProtocol::end_of_stream() {
    ended_ = true;
    if (reader_ == nullptr) return;
    if (reader_takes_) {
        struct Over {
            Bytes& input;
            ~Over() { input = {}; }
        } const over{input_};
        input_ = transport().unconsumed();
        (void)take(true);
    }
    resume_reader();
}

void StreamProtocol::draining() {
    if (extra_ != nullptr && extra_->stop.used) return extra_->stop.ask(ReadyList::of(reactor()));
    task_ = {};
    transport().close();
    ended_ = canceled_ = true;
    if (reader_ != nullptr) resume_reader();  // of a Stream that is not the task's
}

void StreamProtocol::disconnected(std::error_code reason) {
    if (ConnectWaiter* const waiter = take_waiter()) return waiter->failed(reason);
    if (stream_ != nullptr) stream_->end(reason ? reason : Error::end_of_stream);
    stream_ = nullptr;
    if (reader_ != nullptr) resume_reader();
    writers_go_on(true);
    task_ = {};
}

void StreamProtocol::resume_writing() {
    writers_go_on(false);
}

// ── the task ──

void StreamProtocol::finished() {
    const std::exception_ptr failure = std::exchange(exception, nullptr);
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
    if (extra_ == nullptr) return;
    for (WriteOperation* const writer : extra_->writers) writer->set_stream(now);
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

// Why there is nothing to take: the connection is over, or its end has come.
std::error_code Reader::reason() const noexcept {
    const StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return stream_->error();
    if (protocol->canceled_) return std::make_error_code(std::errc::operation_canceled);
    return Error::end_of_stream;
}

void Reader::leave() noexcept {
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr || protocol->reader_ != this) return;
    protocol->reader_ = nullptr;
    // The beginning of a message is for the next read.
    if (protocol->input_.empty() && !protocol->transport().unconsumed().empty()) protocol->pause();
}

bool TakingReader::ready() {
    if (!may_take()) return false;
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr || protocol->input_.empty()) {
        Bytes nothing;
        if (protocol != nullptr && !protocol->canceled_) (void)take_(*this, nothing, true);
        return true;
    }
    return protocol->transport().reading() && take_(*this, protocol->input_, false);
}

Result<Bytes> TakingReader::result() {
    if (taken_) [[likely]]
        return *taken_;
    return reason();
}

void TakingReader::message_received() const {
    protocol()->transport().message_received();
}

// A message must fit into what may be left unconsumed, with one read behind it.
void TakingReader::make_room(std::size_t longest) {
    Transport& transport = protocol()->transport();
    const std::size_t needed = saturated_sum(longest, transport.limits().read_size);
    if (transport.limits().input_limit >= needed) return;
    Limits limits = transport.limits();
    limits.input_limit = needed;
    transport.set_limits(limits);
}

bool ReadExactly::take(Bytes& input, bool at_end) {
    if (input.size() >= size_) return take_message(input, input.first(size_), size_);
    if (!at_end) return make_room(size_), false;
    return fail(input.empty() ? Error::end_of_stream : Error::ended_inside_message);
}

bool ReadExactly::take_nothing() noexcept {
    Bytes nothing;
    return take_message(nothing, {}, 0);
}

bool ReadUntilEnd::take(Bytes& input, bool at_end) {
    const std::size_t size = input.size();
    if (size > most_) {
        input = {};
        return fail(Error::message_too_long);
    }
    if (at_end) return take_message(input, input, size);
    make_room(most_);
    return false;
}

// ── writing ──

bool StreamProtocol::measure_room() noexcept {
    const std::size_t high = transport().limits().high_mark;
    const std::size_t queued = transport().queued();
    credit_ = 0;
    if (queued > high) return false;
    credit_ = std::uint32_t(std::min<std::size_t>(high - queued, std::uint32_t(-1)));
    return true;
}

void StreamProtocol::wait_for_room(WriteOperation& operation) noexcept {
    extra_->writers.push_back(&operation);  // it has room
    extra_->look_again.continuation = Continuation(*extra_);
    ReadyList::of(reactor()).push_behind(extra_->look_again);
}

void StreamProtocol::writers_go_on(bool over) {
    while (extra_ != nullptr && !extra_->writers.empty() && (over || measure_room())) {
        WriteOperation& writer = *extra_->writers.front();
        extra_->writers.erase(extra_->writers.begin());
        resume(std::exchange(writer.continuation_, Continuation()));
    }
}

void WriteOperation::start(Root&, Continuation continuation) noexcept {
    continuation_ = continuation;
    stream().protocol()->wait_for_room(*this);
}

// Without memory to wait it goes on at once; Limits::output_limit holds.
bool WriteOperation::must_wait() noexcept {
    StreamProtocol* const protocol = stream().protocol();
    if (protocol == nullptr || !protocol->transport().open()) return false;
    try {
        (void)ReadyList::of(protocol->reactor());
        std::vector<WriteOperation*>& writers = protocol->extra().writers;
        writers.reserve(writers.size() + 1);
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

void WriteOperation::set_stream(Stream& stream) noexcept {
    bits_ = reinterpret_cast<std::uintptr_t>(&stream) | (bits_ & (refused | waiting));
}

void WriteOperation::leave() noexcept {
    if (StreamProtocol* const protocol = stream().protocol()) std::erase(protocol->extra_->writers, this);
}

}  // namespace coroutine_detail

// ── Stream ──

using coroutine_detail::StreamProtocol;

namespace {

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
    protocol->hold(coroutine_detail::no_stream(), nullptr);
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
    protocol()->ended_ = protocol()->canceled_ = true;
    protocol()->input_ = {};
}

void Stream::abort(std::error_code reason) {
    if (over()) return;
    protocol()->transport().abort(reason);
    protocol()->ended_ = protocol()->canceled_ = true;
    protocol()->input_ = {};
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
