#include <protocols/http/client.hpp>

#include <protocols/http/client_impl.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <stdexcept>

namespace reactor::http {

// ── Call ──

Call& Call::operator=(Call&& other) noexcept {
    if (this == &other) return *this;
    cancel();
    state_ = std::move(other.state_);
    client_ = std::move(other.client_);
    return *this;
}

bool Call::open() const noexcept {
    return state_ != nullptr && state_->pool != nullptr;
}

void Call::cancel() noexcept {
    const auto client = std::move(client_);  // destroyed last
    if (const auto state = std::move(state_); state != nullptr && state->pool != nullptr) state->pool->forget(state);
}

void Call::pause() {
    if (open()) state_->paused = true;
}

void Call::resume() {
    if (!open() || !state_->paused) return;
    state_->paused = false;
    if (state_->connection != nullptr) state_->connection->resume();
}

void Call::on_writable(MoveOnlyFunction<void()> callback) {
    auto writable = std::make_unique<Callback<void()>>(required(std::move(callback), "http::Call: an empty callback"));
    if (!open()) return;
    state_->writable = std::move(writable);
    if (state_->may_write) CallState::call_writable_soon(state_);
}

bool Call::write(Bytes part) {
    if (!open()) return false;
    if (!state_->request.in_parts) throw std::logic_error("http::Call: the request is not in parts");
    return state_->may_write && state_->connection->write_part(part);
}

void Call::end() {
    if (open() && state_->may_write) state_->connection->end_parts();
}

std::size_t Call::queued() const noexcept {
    return open() && state_->connection != nullptr ? state_->connection->queued() : 0;
}

// ── Client ──

Client::Client(Reactor& reactor, ClientOptions options)
    : pool_(std::make_unique<ClientPool>(reactor, std::move(options))) {}

Client::~Client() = default;

Call Client::begin(std::shared_ptr<CallState> state) {
    if (pool_->options.timeout > Duration::zero()) {
        state->deadline.start(pool_->options.timeout);
    }
    pool_->start(state);
    return Call(std::move(state));
}

Call Client::send(ClientRequest request, Answered answered) {
    auto callback = required(std::move(answered), "http::Client: an empty callback");
    auto state = CallState::make(*pool_, std::move(request));
    state->answered = std::move(callback);
    return begin(std::move(state));
}

Call Client::send(ClientRequest request, Parts parts) {
    auto part = required(std::move(parts.part), "http::Client: an empty callback");
    auto state = CallState::make(*pool_, std::move(request));
    state->head = std::move(parts.head);
    state->part = std::move(part);
    return begin(std::move(state));
}

Call Client::get(std::string_view url, Answered answered) {
    ClientRequest request;
    request.url = url;
    return send(std::move(request), std::move(answered));
}

std::size_t Client::connections() const noexcept {
    std::size_t count = 0;
    for (const auto& [key, origin] : pool_->origins) count += origin->links.size();
    return count;
}

std::size_t Client::idle() const noexcept {
    std::size_t count = 0;
    for (const auto& [key, origin] : pool_->origins)
        count += std::size_t(
            std::count_if(origin->links.begin(), origin->links.end(), [](auto& link) { return link->idle; }));
    return count;
}

std::size_t Client::waiting() const noexcept {
    std::size_t count = 0;
    for (const auto& [key, origin] : pool_->origins) count += origin->waiting.size();
    return count;
}

Call get(Reactor& reactor, std::string_view url, Client::Answered answered, ClientOptions options) {
    options.idle = 0;
    const auto client = std::make_shared<Client>(reactor, std::move(options));
    Call call = client->get(url, std::move(answered));
    call.client_ = client;
    return call;
}

}  // namespace reactor::http
