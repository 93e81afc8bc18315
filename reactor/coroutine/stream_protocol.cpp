// The connection resumes its coroutine; the end of either ends the other.
#include <reactor/coroutine/stream.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
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
StreamProtocol::StreamProtocol(ConnectWaiter& waiter) noexcept : state_(connecting), waiter_(&waiter) {}

StreamProtocol::~StreamProtocol() {
    if (ConnectWaiter* const waiter = take_waiter()) waiter->gone();
    if (stream_ != nullptr) stream_->end(std::make_error_code(std::errc::operation_canceled));
    if (waits()) reader_->continuation_ = {};
    unset(reads_some | reads_message);
    if (extra_ != nullptr) {
        for (WriteOperation* const writer : extra_->writers) writer->continuation_ = {};
    }
    task_ = {};
}

ConnectWaiter* StreamProtocol::take_waiter() noexcept {
    if (!is(connecting)) return nullptr;
    unset(connecting);
    return waiter_;
}

// ── from the transport ──

void StreamProtocol::connected() {
    if (ConnectWaiter* const waiter = take_waiter()) return waiter->connected(*this);
    if (!task_ && stream_ == nullptr) return transport().close();  // its connect was given up
    if (!task_) return;
    task_.coroutine().promise().root = this;
    resume(Continuation(task_.coroutine()));
}

// Nearly always a coroutine waits in read_some, and is given everything.
std::size_t StreamProtocol::received(Bytes input) {
    if (state_ != reads_some) [[unlikely]]
        return received_otherwise(input);
    const Continuation continuation = reader_->continuation_;
    if (!continuation.is_coroutine()) [[unlikely]]
        return received_otherwise(input);
    state_ = none;
    reader_->give(input);
    resume_coroutine(continuation);
    return input.size();
}

std::size_t StreamProtocol::received_otherwise(Bytes input) {
    if (!waits()) return pause(), 0;
    set(has_input);
    input_ = input;
    try {
        if (is(reads_some) || take(static_cast<TakingReader&>(*reader_), false)) resume_reader();
    } catch (...) {
        unset(has_input);
        throw;
    }
    return leave_input(input.size());
}

// The call returns: how much of its input was taken?
std::size_t StreamProtocol::leave_input(std::size_t size) noexcept {
    if (!is(has_input)) return size;
    unset(has_input);
    if (!waits()) pause();
    return size - input_.size();
}

// Does the reader find something to take?
bool StreamProtocol::take(TakingReader& reader, bool at_end) {
    Bytes input = is(has_input) ? input_ : Bytes();
    const bool taken = reader.take_(reader, input, at_end);
    input_ = input;
    if (input.empty()) unset(has_input);
    return taken;
}

inline void StreamProtocol::resume_reader() {
    unset(reads_some | reads_message);
    resume(std::exchange(reader_->continuation_, Continuation()));
}

void StreamProtocol::end_of_stream() {
    set(ended);
    if (!waits()) return;
    if (is(reads_message)) {
        input_ = transport().unconsumed();
        set(has_input);
        (void)take(static_cast<TakingReader&>(*reader_), true);
        unset(has_input);
    }
    resume_reader();
}

void StreamProtocol::draining() {
    if (extra_ != nullptr && extra_->stop.used) return extra_->stop.ask(ReadyList::of(reactor()));
    task_ = {};
    transport().close();
    set(ended | canceled);
    if (waits()) resume_reader();  // of a Stream that is not the task's
}

void StreamProtocol::disconnected(std::error_code reason) {
    if (ConnectWaiter* const waiter = take_waiter()) return waiter->failed(reason);
    if (stream_ != nullptr) stream_->end(reason ? reason : Error::end_of_stream);
    stream_ = nullptr;
    if (waits()) resume_reader();
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
    if (waits()) reader_->place_ = &now;
    if (extra_ == nullptr) return;
    for (WriteOperation* const writer : extra_->writers) writer->set_stream(now);
}

// ── reading ──

// There is input, and no read waits for it.
void StreamProtocol::pause() noexcept {
    set(paused);
    transport().pause_reading();
}

// A read begins to wait, and it is not the ordinary case.
void StreamProtocol::begin_read(Reader& reader, Continuation continuation, bool takes) {
    if (waits()) throw std::logic_error("Stream: a second read while one waits");
    if (is(paused)) transport().resume_reading();
    unset(paused);
    reader.continuation_ = continuation;
    reader_ = &reader;
    set(takes ? reads_message : reads_some);
}

// Why there is nothing to take: the connection is over, or its end has come.
std::error_code Reader::reason() const noexcept {
    const StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return stream().error();
    if (protocol->is(StreamProtocol::canceled)) return std::make_error_code(std::errc::operation_canceled);
    return Error::end_of_stream;
}

void Reader::leave() noexcept {
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr || !protocol->waits() || protocol->reader_ != this) return;
    protocol->unset(StreamProtocol::reads_some | StreamProtocol::reads_message);
    // The beginning of a message is for the next read.
    if (!protocol->is(StreamProtocol::has_input) && !protocol->transport().unconsumed().empty()) protocol->pause();
}

bool TakingReader::ready() {
    if (!may_take()) return false;
    StreamProtocol* const protocol = this->protocol();
    if (protocol == nullptr) return true;
    if (protocol->is(StreamProtocol::has_input)) return protocol->transport().reading() && protocol->take(*this, false);
    if (!protocol->is(StreamProtocol::canceled)) (void)protocol->take(*this, true);
    return true;
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

}  // namespace reactor
