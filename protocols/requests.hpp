// Requests: questions to a server, each answered by one message, over a pool of connections. A question has a time
// limit for each try, may be asked again when a try fails, and is cancelled by destroying its handle.
//
//     Requests<Lines> cache{reactor, "localhost", 11211};
//     Request version = cache.ask("version", [](std::error_code error, Bytes answer) { use(answer); });
#pragma once

#include <protocols/framing/framed.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/timer.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

/// The options of a Requests pool: how many connections, how long, how often.
struct RequestsOptions {
    /// Connections at a time, at least 1. One carries one request at a time, and is kept for the next.
    std::size_t connections = 4;
    /// Time for each try, from ask() or from the failure of the try before, to the answer; the wait for a connection
    /// counts. A request takes at most `retries + 1` times as long. Zero: no limit.
    Duration timeout = std::chrono::seconds(10);
    /// How often a request is asked again when no connection could be made, its connection ended before the answer, or
    /// the try was out of time. The server may see a repeated request twice.
    std::size_t retries = 0;
    /// Its `reconnect` is the longest wait after a failure before the next connection is made: 10 s unless it is given.
    /// The wait is 100 ms, or this if it is less, then twice as long after each failure in a row. An answer ends the
    /// row.
    ConnectorOptions connector = {};
};

/// The handle of one request. Destroying it cancels the request: its callback is never called. On the loop's thread.
class [[nodiscard]] Request {
public:
    /// Called once from the loop: with the answer, which is valid until the call returns, or with an error and no
    /// bytes.
    using Answered = MoveOnlyFunction<void(std::error_code, Bytes)>;

    Request() noexcept = default;
    Request(Request&&) noexcept = default;
    Request& operator=(Request&& other) noexcept {
        if (this != &other) cancel();
        state_ = std::move(other.state_);
        return *this;
    }
    ~Request() { cancel(); }

    /// True until the callback was called, or the request cancelled.
    explicit operator bool() const noexcept { return state_ != nullptr && state_->answered; }
    void cancel() noexcept {
        if (state_ == nullptr) return;
        state_->deadline.cancel();
        if (const Answered unused = std::exchange(state_->answered, nullptr)) state_->over();
        state_.reset();
    }

private:
    template <Framing>
    friend class Requests;
    struct State {
        State(Reactor& reactor, Bytes bytes, Answered callback, const RequestsOptions& options,
              MoveOnlyFunction<void()> when_over)
            : question(bytes.begin(), bytes.end()),
              answered(std::move(callback)),
              over(std::move(when_over)),
              retries_left(options.retries),
              timeout(options.timeout),
              deadline(reactor, [this] { out_of_time(); }) {}

        void begin_try() {
            if (timeout > Duration::zero()) deadline.start(timeout);
        }

        // Another try, on another connection: this one may still answer.
        void out_of_time() {
            if (retries_left == 0) return finish(std::make_error_code(std::errc::timed_out), {});
            try {
                begin_try();
            } catch (const std::bad_alloc&) {
                return finish(std::make_error_code(std::errc::not_enough_memory), {});
            }
            --retries_left;
            ask_again = true;
            over();
        }

        // The callback may destroy anything, this too.
        void finish(std::error_code error, Bytes answer) {
            deadline.cancel();
            if (!answered) return;
            over();
            Answered call = std::exchange(answered, nullptr);
            call(error, answer);
        }

        std::vector<std::byte> question;
        Answered answered;              // empty once it was called or cancelled
        MoveOnlyFunction<void()> over;  // the pool may have something to do now
        std::size_t retries_left;
        const Duration timeout;  // of each try
        bool ask_again = false;  // was out of time on the connection that carries it
        Timer deadline;
    };
    explicit Request(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
    std::shared_ptr<State> state_;
};

/// A pool of connections to one server. All calls on the loop's thread; must go before its reactor.
template <Framing F>
class Requests {
public:
    /// Connects when there is something to ask. Throws std::invalid_argument for an option out of its range.
    Requests(Reactor& reactor, std::string_view host, std::uint16_t port, F framing = F(), RequestsOptions options = {})
        : pool_(std::make_shared<Pool>(reactor, host, port, std::move(framing), std::move(options))) {}

    /// Resets the connections, idle ones too, and cancels every request.
    ~Requests() { pool_->end(); }
    Requests(const Requests&) = delete;
    Requests& operator=(const Requests&) = delete;

    /// At so many requests that wait for a connection, one more is answered with resource_unavailable_try_again.
    static constexpr std::size_t most_waiting = 1024;

    /// Sends `question`, now or when a connection is free. The callback is never called from inside this call. An error
    /// is timed_out, connection_reset if the server ended the connection before the answer, the reason why no
    /// connection could be made, or the framing's. Throws std::invalid_argument for an empty callback, and
    /// std::bad_alloc.
    Request ask(Bytes question, Request::Answered answered) {
        return pool_->ask(question, required(std::move(answered), "Requests::ask: an empty callback"));
    }
    Request ask(std::string_view question, Request::Answered answered) {
        return ask(bytes_of(question), std::move(answered));
    }

    /// Connections that there are, and requests that wait for one.
    std::size_t connections() const noexcept { return pool_->links.size(); }
    std::size_t waiting() const noexcept { return pool_->waiting.size(); }

private:
    using State = Request::State;
    class Client;
    static constexpr Duration first_back_off = std::chrono::milliseconds(100);

    // One connection, from the moment it is begun.
    struct Link {
        std::unique_ptr<Connector> connector;
        Client* client = nullptr;        // once it is connected
        std::shared_ptr<State> request;  // that it carries
        bool over = false;
    };

    // Shared with the protocols of the connections, which belong to the loop and may outlive the pool.
    struct Pool : std::enable_shared_from_this<Pool> {
        Pool(Reactor& loop, std::string_view name, std::uint16_t at, F the_framing, RequestsOptions the_options)
            : reactor(loop),
              host(name),
              port(at),
              framing(std::move(the_framing)),
              options(std::move(the_options)),
              pump_timer(loop, [this] { pump(); }) {
            if (options.connections < 1) throw std::invalid_argument("Requests: at least one connection is needed");
            // Connections are made here, when there is something to ask, and not by the connectors.
            longest_back_off = std::exchange(options.connector.reconnect, Duration::zero());
            if (longest_back_off <= Duration::zero()) longest_back_off = std::chrono::seconds(10);
            longest_back_off =
                std::clamp(longest_back_off, Duration(std::chrono::milliseconds(1)), Duration(std::chrono::hours(24)));
        }

        Request ask(Bytes question, Request::Answered answered) {
            auto state = std::make_shared<State>(reactor, question, std::move(answered), options,
                                                 [pool = this->weak_from_this()] {
                                                     if (const auto alive = pool.lock()) alive->pump_soon();
                                                 });
            waiting.push_back(state);
            if (waiting.size() > most_waiting) refused.push_back(state);
            state->begin_try();
            pump_soon();
            return Request(std::move(state));
        }

        void pump_soon() noexcept {
            try {
                if (!ended) pump_timer.start(Duration::zero());
            } catch (const std::bad_alloc&) {  // the next question tries again
            }
        }

        // From the loop, and from nowhere else: removes what is over, and gives connections their requests.
        void pump() {
            const std::shared_ptr<Pool> self = this->shared_from_this();  // a callback may destroy the pool
            for (auto& state : std::exchange(refused, {})) {
                std::erase(waiting, state);
                state->finish(std::make_error_code(std::errc::resource_unavailable_try_again), {});
                if (ended) return;
            }
            std::erase_if(waiting, [](const auto& state) { return !state->answered; });  // cancelled, or out of time
            std::size_t coming = 0;
            for (const auto& link : links) {
                if (link->request != nullptr && (!link->request->answered || link->request->ask_again)) {
                    const std::shared_ptr<State> state = link->request;
                    link->client->drop();
                    if (state->answered) waiting.push_front(state);
                }
                if (link->over) continue;
                if (link->client == nullptr) ++coming;
                if (link->client == nullptr || link->request != nullptr || waiting.empty()) continue;
                link->request = std::move(waiting.front());
                link->request->ask_again = false;
                waiting.pop_front();
                link->client->put();
            }
            std::erase_if(links, [](const auto& link) { return link->over; });
            while (coming < waiting.size() && links.size() < options.connections) {
                if (reactor.now() < not_before) return pump_timer.start_at(not_before);
                connect();
                ++coming;
            }
        }

        void connect() {
            auto link = std::make_unique<Link>();
            link->connector = std::make_unique<Connector>(
                reactor, host, port,
                [pool = this->weak_from_this(), link = link.get()]() -> std::unique_ptr<Protocol> {
                    const auto alive = pool.lock();
                    return alive == nullptr ? nullptr : std::make_unique<Client>(alive, *link);
                },
                options.connector);
            links.push_back(std::move(link));
        }

        // A connection failed, or ended before its answer. `state` is null if it carried no request: then the first
        // that waits has lost its chance.
        void failed(std::shared_ptr<State> state, std::error_code error) {
            back_off = std::min(back_off == Duration::zero() ? first_back_off : 2 * back_off, longest_back_off);
            not_before = deadline_after(reactor.now(), back_off);
            pump_soon();
            if (state == nullptr && !waiting.empty()) {
                state = std::move(waiting.front());
                waiting.pop_front();
            }
            if (state == nullptr || !state->answered) return;
            if (state->retries_left == 0) return state->finish(error, {});
            --state->retries_left;
            state->begin_try();
            waiting.push_front(std::move(state));
        }

        void end() noexcept {
            ended = true;
            pump_timer.cancel();
            for (const auto& link : links) {
                if (link->client != nullptr) link->client->leave();
                link->connector.reset();
            }
            const auto drop = [](const std::shared_ptr<State>& state) {
                if (state == nullptr) return;
                state->deadline.cancel();
                state->answered = nullptr;
            };
            for (const auto& state : waiting) drop(state);
            for (const auto& link : links) drop(link->request);
            waiting.clear();
            links.clear();
        }

        Reactor& reactor;
        const std::string host;
        const std::uint16_t port;
        const F framing;
        RequestsOptions options;
        Duration longest_back_off{};
        std::deque<std::shared_ptr<State>> waiting;
        std::vector<std::shared_ptr<State>> refused;  // of those
        std::vector<std::unique_ptr<Link>> links;
        Duration back_off = Duration::zero();
        TimePoint not_before{};
        Timer pump_timer;
        bool ended = false;
    };

    class Client final : public Framed<F> {
    public:
        Client(const std::shared_ptr<Pool>& pool, Link& link) : Framed<F>(pool->framing), pool_(pool), link_(&link) {}

        /// Sends the question of the link's request.
        void put() { this->send(Bytes(link_->request->question)); }

        /// The request was cancelled, or out of time: its answer would be taken for the next one's.
        void drop() {
            Link& link = *std::exchange(link_, nullptr);
            link.request.reset();
            link.client = nullptr;
            link.over = true;
            this->transport().abort();
        }

        /// The pool has gone.
        void leave() noexcept {
            link_ = nullptr;
            this->transport().abort();
        }

    private:
        void connected() override {
            if (link_ == nullptr) return this->transport().abort();
            link_->client = this;
            pump_soon();
        }

        void message(Bytes answer) override {
            const auto pool = pool_.lock();
            if (pool == nullptr || link_ == nullptr) return;
            const std::shared_ptr<State> state = std::move(link_->request);
            if (state == nullptr) return this->transport().abort(std::make_error_code(std::errc::protocol_error));
            pool->back_off = Duration::zero();
            pool->not_before = {};
            pool->pump_soon();
            state->finish({}, answer);
        }

        void disconnected(std::error_code error) override {
            const auto pool = pool_.lock();
            if (pool == nullptr || link_ == nullptr || pool->ended) return;
            Link& link = *std::exchange(link_, nullptr);
            const bool connected = link.client != nullptr;
            link.client = nullptr;
            link.over = true;
            pool->pump_soon();
            if (connected && link.request == nullptr) return;  // it was idle
            pool->failed(std::move(link.request), error ? error : std::make_error_code(std::errc::connection_reset));
        }

        void pump_soon() {
            if (const auto pool = pool_.lock()) pool->pump_soon();
        }

        std::weak_ptr<Pool> pool_;
        Link* link_;  // null once the connection or the pool has ended
    };

    std::shared_ptr<Pool> pool_;
};

}  // namespace reactor
