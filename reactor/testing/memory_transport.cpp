// The memory of a connection, and the order of the calls to its protocol.
#include <reactor/reactor.hpp>
#include <reactor/stream/deadlines_impl.hpp>
#include <reactor/stream/detail/stream_state.hpp>
#include <reactor/stream/handle_state_impl.hpp>
#include <reactor/stream/last_calls_impl.hpp>
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
    Memory(StreamState& the_state, Protocol& the_protocol, const Limits& the_limits)
        : protocol(the_protocol), limits(the_limits.bounded()), state(the_state) {
        since.begin(clock.now());
    }

    bool step();
    bool make(StreamState::Call call);
    void call(void (Protocol::*callback)());
    void receive();
    void flush();
    void finish(std::error_code reason);
    void end();

    static bool run_posted(Transport& transport, HandleState::Call& posted);
    bool run_loop();
    void end_in_time();

    ManualClock clock;
    std::unique_ptr<Reactor> loop;         // once it was asked for; outlives the protocol's timers
    std::shared_ptr<HandleState> handles;  // if there are any
    std::unique_ptr<Protocol> owned;
    Protocol& protocol;
    Limits limits;
    Address peer, local;
    std::optional<PeerCredentials> credentials;

    std::string incoming;  // fed, and not read yet
    ByteQueue rest;        // read, and not consumed
    std::string queue;     // written, and not taken
    std::string output;    // taken
    std::size_t window = everything;

    StreamState& state;  // the transport's
    Deadlines since;
    bool settling = false;
    bool inside = false;     // a call to the protocol
    bool receiving = false;  // that call is received()
    bool resumed = false;    // resume_writing() was called, and nothing has been received since
    bool was_reset = false;
    bool peer_ended = false;
    bool drain_asked = false;
    std::optional<std::error_code> broken;  // by the peer
    std::error_code reason;                 // once the state is `over`
    std::optional<std::error_code> disconnected;
};

MemoryTransport::MemoryTransport(std::unique_ptr<Protocol> protocol, const Limits& limits)
    : memory_(std::make_unique<Memory>(state_, *protocol, limits)) {
    memory_->owned = std::move(protocol);
    attach(memory_->protocol, this);
    settle();
}

MemoryTransport::MemoryTransport(Protocol& protocol, const Limits& limits)
    : memory_(std::make_unique<Memory>(state_, protocol, limits)) {
    attach(protocol, this);
    settle();
}

MemoryTransport::~MemoryTransport() {
    if (memory_->handles != nullptr) memory_->handles->end();
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
        memory.end_in_time();
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
    return memory_->state.is(StreamState::shutting | StreamState::closing) && memory_->queue.empty() &&
           !memory_->was_reset;
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
    Memory& memory = *memory_;
    if (!memory.state.accepts_writes()) return false;
    if (memory.queue.size() >= memory.limits.output_limit) {
        memory.finish(Error::output_limit);
        return false;
    }
    if (memory.queue.empty()) memory.since.output_since = memory.clock.now();
    memory.queue += text_of(data);
    if (!memory.inside) memory.flush();
    memory.state.output_queued(memory.queue.size(), memory.limits, memory.receiving);
    return true;
}

void MemoryTransport::requested(Request request) {
    Memory& memory = *memory_;
    const TimePoint now = memory.clock.now();
    if (request == Request::close) memory.since.last_activity = now;
    if (request == Request::resume_reading) memory.since.received = memory.since.rest_since = now;
    if (!memory.inside && (request == Request::shutdown_write || request == Request::close)) memory.flush();
}

void MemoryTransport::abort(std::error_code reason) {
    if (memory_->state.is(StreamState::over)) return;
    memory_->was_reset = true;
    memory_->finish(reason);
}

Reactor& MemoryTransport::reactor() const {
    Memory& memory = *memory_;
    if (memory.loop == nullptr)
        memory.loop = std::make_unique<Reactor>(std::make_unique<ScriptedDemultiplexer>(memory.clock), memory.clock);
    return *memory.loop;
}

TransportHandle MemoryTransport::handle() {
    if (memory_->state.is(StreamState::over)) return {};
    if (memory_->handles == nullptr)
        memory_->handles = std::make_shared<HandleState>(reactor(), *this, &Memory::run_posted);
    return memory_->handles->handle();
}

// From the loop: a call that a handle posted.
bool MemoryTransport::Memory::run_posted(Transport& transport, HandleState::Call& posted) {
    Memory& memory = *static_cast<MemoryTransport&>(transport).memory_;
    if (!memory.state.open()) return true;
    if (memory.state.is(StreamState::fresh)) return false;
    const Flag in_call(memory.inside);
    try {
        posted(transport, memory.protocol);
    } catch (...) {
        memory.was_reset = true;
        memory.finish(Error::exception);
        throw;
    }
    return true;
}

Bytes MemoryTransport::unconsumed() const noexcept {
    return memory_->rest.view();
}

std::size_t MemoryTransport::queued() const noexcept {
    return memory_->queue.size();
}

const Limits& MemoryTransport::limits() const noexcept {
    return memory_->limits;
}

void MemoryTransport::set_limits(const Limits& limits) {
    Memory& memory = *memory_;
    memory.limits = limits.bounded();
    if (!memory.state.is(StreamState::closing)) memory.since.begin(memory.clock.now());
}

Transport::Answer MemoryTransport::ask(Question question) const {
    if (question == Question::peer_credentials) return {{}, memory_->credentials};
    return {question == Question::peer ? memory_->peer : memory_->local};
}

// ── what follows ──

void MemoryTransport::settle() {
    if (memory_->settling) return;  // the call that this one is inside of goes on
    const Flag settling(memory_->settling);
    struct Last {  // also if something is thrown
        Memory& memory;
        ~Last() {
            if (memory.disconnected) memory.owned.reset();
        }
    } const last{*memory_};
    memory_->resumed = false;
    std::exception_ptr failure;  // out of a timer or a posted call: its consequences come first
    bool more = false;
    int turns = 0;
    do {
        try {
            while (memory_->step()) {
            }
        } catch (...) {
            memory_->was_reset = true;
            memory_->finish(Error::exception);
            if (!memory_->disconnected) memory_->end();
            throw;
        }
        try {
            more = memory_->run_loop();
        } catch (...) {
            if (!failure) failure = std::current_exception();
            more = true;
        }
    } while (more && ++turns < most_turns);
    if (failure) std::rethrow_exception(failure);
}

// Does what is due on the loop. False if nothing is, or if it runs already and called into this.
bool MemoryTransport::Memory::run_loop() {
    if (loop == nullptr || loop->in_iteration() || loop->next_timeout() != Duration::zero()) return false;
    loop->run_once(Duration::zero());
    return true;
}

// As a loop's timer would.
void MemoryTransport::Memory::end_in_time() {
    if (state.is(StreamState::over)) return;
    const TimePoint now = clock.now();
    if (!state.reading()) since.rest_since = since.received = now;  // nothing can come
    const Deadlines::Next next = since.next(limits, state.is(StreamState::closing), !rest.empty(), !queue.empty());
    if (now >= next.at) finish(next.error);
}

// One thing that happens, in the order in which a connection would see it. False if nothing is left to happen.
bool MemoryTransport::Memory::step() {
    if (disconnected) return false;
    if (state.is(StreamState::over)) return end(), true;
    flush();
    if (broken) {
        queue.clear();
        // A pause holds back an end, and no reset: unread input is then lost.
        if (state.is(StreamState::paused) || (!state.is(StreamState::output_broken) && !state.write_failed(true)))
            return finish(*broken), true;
    }
    if (state.is(StreamState::closing)) {
        incoming.clear();
        rest.clear();
        if (peer_ended) state.peer_ended();
    }
    // Only one resume_writing() until something is received: a protocol may write without end.
    if (make(state.next_call(resumed ? everything : queue.size(), limits))) return true;
    if (std::exchange(drain_asked, false) && !state.is(StreamState::closing)) return call(&Protocol::draining), true;
    if (state.reading() && !incoming.empty()) return make(StreamState::Call::received);
    if (state.reading() && (peer_ended || broken)) {
        make(state.peer_ended());
        return true;
    }
    switch (state.next_step(queue.size())) {
        case StreamState::Step::none: return false;
        case StreamState::Step::end_output: return true;  // ended() says so
        case StreamState::Step::finish: finish(broken.value_or(std::error_code())); return true;
    }
    return false;
}

bool MemoryTransport::Memory::make(StreamState::Call due) {
    switch (due) {
        case StreamState::Call::none: return false;
        case StreamState::Call::connected: call(&Protocol::connected); break;
        case StreamState::Call::received:
            if (incoming.empty() && rest.empty()) break;
            receive();
            break;
        case StreamState::Call::end_of_stream:
            call(&Protocol::end_of_stream);
            rest.clear();
            break;
        case StreamState::Call::closing: call(&Protocol::closing); break;
        case StreamState::Call::pause_writing: call(&Protocol::pause_writing); break;
        case StreamState::Call::resume_writing:
            resumed = true;
            call(&Protocol::resume_writing);
            break;
    }
    return true;
}

void MemoryTransport::Memory::call(void (Protocol::*callback)()) {
    const Flag in_call(inside);
    (protocol.*callback)();
}

// The input lies in memory of its own size, so that a sanitizer sees a protocol that reads past it or keeps it.
void MemoryTransport::Memory::receive() {
    resumed = false;
    const std::size_t size = std::min(incoming.size(), limits.read_size);
    if (size > 0) since.last_activity = since.received = clock.now();
    const std::size_t known = rest.size();
    const std::unique_ptr<std::byte[]> memory(new std::byte[known + size]);
    if (known > 0) std::memcpy(memory.get(), rest.view().data(), known);
    std::memcpy(memory.get() + known, incoming.data(), size);
    incoming.erase(0, size);
    const Bytes input(memory.get(), known + size);
    std::size_t consumed = 0;
    {
        const Flag in_call(inside);
        const Flag in_received(receiving);
        consumed = protocol.received(input);
    }
    if (state.keep_rest(rest, input, consumed)) since.rest_since = clock.now();
    if (rest.size() > limits.input_limit) {
        was_reset = true;
        finish(Error::input_limit);
    }
}

// disconnected() is the next call.
void MemoryTransport::Memory::finish(std::error_code why) {
    if (state.is(StreamState::over)) return;
    if (!queue.empty()) was_reset = true;
    state.set(StreamState::over);
    if (handles != nullptr) handles->end();
    reason = why;
    queue.clear();
}

void MemoryTransport::Memory::end() {
    incoming.clear();
    rest.clear();
    disconnected = reason;
    const Flag in_call(inside);
    make_last_calls(state, protocol, reason);
}

void MemoryTransport::Memory::flush() {
    const std::size_t size = std::min(window, queue.size());
    if (size == 0) return;
    output.append(queue, 0, size);
    queue.erase(0, size);
    if (window != everything) window -= size;
    since.last_activity = since.output_since = clock.now();
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
