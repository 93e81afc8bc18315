// The memory that stands in for a connection's kernel and peer. StreamTransport has the order of the calls.
#include <reactor/detail/internals.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/dressed_impl.hpp>
#include <reactor/stream/stream_transport_impl.hpp>
#include <reactor/testing/manual_clock.hpp>
#include <reactor/testing/memory_transport.hpp>
#include <reactor/testing/scripted_demultiplexer.hpp>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <stdexcept>
#include <utility>
#include <vector>

namespace reactor::testing {

namespace {

constexpr int most_turns = 1000;  // without time passing: a protocol may post work for ever
constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

struct Flag {
    bool& flag;
    explicit Flag(bool& which) noexcept : flag(which) { flag = true; }
    ~Flag() { flag = false; }
    Flag(const Flag&) = delete;
    Flag& operator=(const Flag&) = delete;
};

}  // namespace

struct MemoryTransport::Memory {
    ManualClock clock;
    std::unique_ptr<Reactor> loop;  // once it was asked for; outlives the protocol's timers
    bool kept = false;              // the protocol is the test's
    Address peer, local;
    std::optional<PeerCredentials> credentials;

    std::string incoming;  // fed, and not read yet
    std::string output;    // taken
    std::size_t window = everything;

    bool settling = false;
    bool resumed = false;  // resume_writing() was called, and nothing has been received since
    bool was_reset = false;
    bool peer_ended = false;
    bool drain_asked = false;
    std::optional<std::error_code> broken;  // by the peer
    std::optional<std::error_code> disconnected;
};

MemoryTransport::MemoryTransport(std::unique_ptr<Protocol> protocol, const Limits& limits, bool kept)
    : StreamTransport(std::move(protocol)), memory_(std::make_unique<Memory>()) {
    memory_->kept = kept;
    try {
        parts_ = std::make_unique<StreamParts>(*this, nullptr);
        parts_->limits = std::make_unique<Limits>(limits.bounded());
        plan_deadline();
        settle();
    } catch (...) {
        let_go();
        throw;
    }
}

MemoryTransport::MemoryTransport(std::unique_ptr<Protocol> protocol, const Limits& limits)
    : MemoryTransport(std::move(protocol), limits, false) {}

MemoryTransport::MemoryTransport(Protocol& protocol, const Limits& limits)
    : MemoryTransport(std::unique_ptr<Protocol>(&protocol), limits, true) {}

MemoryTransport::~MemoryTransport() {
    let_go();
}

// The protocol goes before the loop, which its timers are on.
void MemoryTransport::let_go() noexcept {
    if (memory_->kept) (void)protocol_.release();
    destroy_protocol();
}

// ── the peer ──

void MemoryTransport::feed(Bytes data) {
    if (memory_->peer_ended) throw std::logic_error("a peer that has shut its side sends nothing more");
    if (!memory_->disconnected && !memory_->broken) memory_->incoming += text_of(data);
    settle();
}

void MemoryTransport::end() {
    memory_->peer_ended = true;
    settle();
}

void MemoryTransport::reset(std::error_code reason) {
    if (!memory_->broken) memory_->broken = reason;
    settle();
}

void MemoryTransport::fill() {
    memory_->window = 0;
}

void MemoryTransport::drain(std::size_t bytes) {
    memory_->window = bytes > everything - memory_->window ? everything : memory_->window + bytes;
    settle();
}

void MemoryTransport::drain() {
    drain(everything);
}

void MemoryTransport::advance(Duration time) {
    Memory& memory = *memory_;
    memory.clock.advance(std::min(time, Duration::zero()));  // throws for a negative one
    const TimePoint end = deadline_after(memory.clock.now(), time);
    int turns = 0;  // at the same time
    do {
        TimePoint next = end;
        if (memory.loop != nullptr) {
            if (const auto wait = memory.loop->next_timeout())
                next = std::min(end, deadline_after(memory.clock.now(), *wait));
        }
        turns = next > memory.clock.now() ? 0 : turns + 1;
        memory.clock.set(next);
        if (!is(over)) deadline();
        settle();
    } while (memory.clock.now() < end && turns < most_turns);
}

void MemoryTransport::ask_to_drain() {
    memory_->drain_asked = true;
    settle();
}

std::string MemoryTransport::take() {
    return std::exchange(memory_->output, {});
}

const std::string& MemoryTransport::output() const noexcept {
    return memory_->output;
}

bool MemoryTransport::ended() const noexcept {
    return is(shutting | closing) && queued() == 0 && !memory_->was_reset;
}

bool MemoryTransport::was_reset() const noexcept {
    return memory_->was_reset;
}

std::optional<std::error_code> MemoryTransport::disconnected() const noexcept {
    return memory_->disconnected;
}

std::size_t MemoryTransport::waiting() const noexcept {
    return memory_->incoming.size();
}

void MemoryTransport::set_addresses(const Address& peer, const Address& local) {
    memory_->peer = peer;
    memory_->local = local;
}

void MemoryTransport::set_peer_credentials(const PeerCredentials& credentials) {
    memory_->credentials = credentials;
}

// ── the protocol ──

bool MemoryTransport::write(Bytes data) {
    if (!state_.accepts_writes()) return false;
    const bool waits = calling() != Calling::none || queued() > 0;
    queue(waits ? data : data.subspan(taken(data)));
    return !is(over);
}

void MemoryTransport::abort(std::error_code reason) {
    if (is(over)) return;
    memory_->was_reset = true;
    finish(reason);
}

Reactor& MemoryTransport::reactor() const {
    Memory& memory = *memory_;
    if (memory.loop == nullptr)
        memory.loop = std::make_unique<Reactor>(std::make_unique<ScriptedDemultiplexer>(memory.clock), memory.clock);
    return *memory.loop;
}

TimePoint MemoryTransport::now() const {
    return memory_->clock.now();
}

Transport::Answer MemoryTransport::ask(Question question) const {
    if (question == Question::peer_credentials) return {{}, memory_->credentials};
    return {question == Question::peer ? memory_->peer : memory_->local};
}

void MemoryTransport::protocol_changes() {
    if (memory_->kept) throw std::logic_error("the test keeps the protocol, so nothing else can own it");
}

// ── what follows ──

void MemoryTransport::settle() {
    if (memory_->settling) return;  // the call that this one is inside of goes on
    const Flag settling(memory_->settling);
    struct Last {  // also if something is thrown
        MemoryTransport& transport;
        ~Last() {
            if (transport.memory_->disconnected && !transport.memory_->kept) transport.protocol_.reset();
        }
    } const last{*this};
    memory_->resumed = false;
    std::exception_ptr failure;  // out of a call: its consequences come first
    bool more = false;
    int turns = 0;
    do {
        try {
            while (step()) {
            }
            more = run_loop();
        } catch (...) {
            if (!failure) failure = std::current_exception();
            more = true;
        }
    } while (more && ++turns < most_turns);
    if (failure) std::rethrow_exception(failure);
}

// Does what is due on the loop. False if nothing is, or if it runs already and called into this.
bool MemoryTransport::run_loop() {
    Reactor* const loop = memory_->loop.get();
    if (loop == nullptr || Internals(*loop).in_iteration() || loop->next_timeout() != Duration::zero()) return false;
    loop->run_once(Duration::zero());
    return true;
}

// One thing that happens, in the order in which a connection would see it. False if nothing is left to happen.
bool MemoryTransport::step() {
    Memory& memory = *memory_;
    if (memory.disconnected) return false;
    if (is(over)) {
        memory.incoming.clear();
        memory.disconnected = reason();
        begin_call(Calling::other);
        last_calls();
        return true;
    }
    flush();
    if (memory.broken) {
        parts_->output.clear();
        parts_->reason = *memory.broken;
        // A pause holds back an end, and no reset: unread input is then lost.
        if (is(paused) || (!is(output_broken) && !state_.write_failed(true))) return finish(*memory.broken), true;
    }
    if (is(closing)) {
        memory.incoming.clear();
        parts_->input.clear();
        if (memory.peer_ended) (void)state_.peer_ended();
    }
    // Only one resume_writing() until something is received: a protocol may write without end.
    const StreamState::Call due = state_.next_call(memory.resumed ? everything : queued(), limits());
    if (due == StreamState::Call::resume_writing) memory.resumed = true;
    if (due != StreamState::Call::received && make(due)) return true;
    if (due == StreamState::Call::received && receive()) return true;
    if (std::exchange(memory.drain_asked, false) && !is(closing)) {
        call([this] { protocol_->draining(); });
        return true;
    }
    if (reading() && !memory.incoming.empty()) return receive();
    if (reading() && (memory.peer_ended || memory.broken)) {
        end_of_input();
        return true;
    }
    StreamTransport::settle();
    return is(over);
}

// The input lies in memory of its own size, so that a sanitizer sees a protocol that reads past it or keeps it.
bool MemoryTransport::receive() {
    Memory& memory = *memory_;
    memory.resumed = false;
    const Bytes rest = unconsumed();
    const std::size_t size = std::min(memory.incoming.size(), limits().read_size);
    if (rest.empty() && size == 0) return false;
    if (size > 0) parts_->since.last_activity = parts_->since.received = now();
    const std::unique_ptr<std::byte[]> input(new std::byte[rest.size() + size]);
    if (!rest.empty()) std::memcpy(input.get(), rest.data(), rest.size());
    std::memcpy(input.get() + rest.size(), memory.incoming.data(), size);
    memory.incoming.erase(0, size);
    deliver({input.get(), rest.size() + size});
    return true;
}

void MemoryTransport::ended(std::error_code reason, std::size_t unsent) noexcept {
    if (unsent > 0 || reason == Error::exception || reason == Error::input_limit) memory_->was_reset = true;
}

std::size_t MemoryTransport::taken(Bytes data) {
    Memory& memory = *memory_;
    const std::size_t size = std::min(memory.window, data.size());
    if (size == 0) return 0;
    memory.output += text_of(data.first(size));
    if (memory.window != everything) memory.window -= size;
    parts_->since.last_activity = parts_->since.output_since = now();
    return size;
}

void MemoryTransport::flush() {
    Output& queue = parts_->output;
    if (const std::size_t size = taken(queue.bytes()); size > 0) queue.consume(size);
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
