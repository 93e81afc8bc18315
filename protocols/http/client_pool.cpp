// The pool of a client's connections: a call waits for one to its server, and a new one is made where fewer are on the
// way than calls wait. Each connection that cannot be made fails one call, so nothing is tried for ever.
#include <protocols/http/client_impl.hpp>

#include <reactor/reactor.hpp>

#include <algorithm>
#include <stdexcept>
#include <tuple>
#include <utility>

namespace reactor::http {

// ── a call ──

CallState::CallState(ClientPool& the_pool, Url the_url, ClientRequest the_request)
    : pool(&the_pool),
      url(std::move(the_url)),
      first_url(url),
      request(std::move(the_request)),
      redirects_left(the_pool.options.redirects) {}

std::shared_ptr<CallState> CallState::make(ClientPool& pool, ClientRequest request) {
    check_request(request);
    std::optional<Url> url = parse_url(request.url);
    if (!url) throw std::invalid_argument("http::Client: not a URL that can be asked: " + request.url);
    if (url->secure && !pool.options.secure)
        throw std::invalid_argument("http::Client: https needs ClientOptions::secure: " + request.url);
    auto state = std::make_shared<CallState>(pool, std::move(*url), std::move(request));
    state->deadline = Timer(pool.reactor, [weak = std::weak_ptr(state)] {
        const auto call = weak.lock();
        if (call != nullptr && call->pool != nullptr) call->pool->out_of_time(call);
    });
    return state;
}

void CallState::drop() noexcept {
    pool = nullptr;
    origin = nullptr;
    connection = nullptr;
    may_write = false;
    deadline.cancel();
    // Their captures may own this call's handle.
    const auto unused = std::make_tuple(std::move(answered), std::move(head), std::move(part), std::move(writable));
}

void CallState::fail(std::error_code reason) {
    auto tell = std::move(answered);
    auto tell_part = std::move(part);
    drop();
    if (tell) return tell(reason, Response());
    if (tell_part) tell_part(reason, {}, true);
}

void CallState::call_writable_soon(const std::shared_ptr<CallState>& state) {
    state->pool->reactor.post([weak = std::weak_ptr(state)] {
        const auto call = weak.lock();
        if (call != nullptr && call->may_write && call->writable != nullptr) (*call->writable)();
    });
}

// ── the pool ──

ClientPool::ClientPool(Reactor& the_reactor, ClientOptions the_options)
    : reactor(the_reactor), options(std::move(the_options)) {
    if (options.connections < 1) throw std::invalid_argument("http::Client: at least one connection is needed");
    options.connector.reconnect = Duration::zero();
    if (options.proxy.empty()) return;
    proxy = parse_url(options.proxy);
    if (!proxy || proxy->secure)
        throw std::invalid_argument("http::Client: not an http URL of a proxy: " + options.proxy);
}

ClientPool::~ClientPool() {
    std::vector<std::shared_ptr<CallState>> calls = std::move(refused_);
    std::vector<ClientConnection*> connections;
    for (const auto& [key, origin] : origins) {
        calls.insert(calls.end(), origin->waiting.begin(), origin->waiting.end());
        for (const auto& link : origin->links)
            if (link->connection != nullptr) connections.push_back(link->connection);
    }
    for (ClientConnection* const connection : connections) connection->abort();
    for (const auto& call : calls) call->drop();
}

ClientOrigin& ClientPool::origin_of(const Url& url) {
    std::string key = url.secure ? "s" : "";
    key += url.host + ":" + std::to_string(url.port);
    const auto known = origins.find(key);
    if (known != origins.end()) return *known->second;
    std::erase_if(origins, [](const auto& each) { return each.second->links.empty() && each.second->waiting.empty(); });
    auto origin = std::make_unique<ClientOrigin>();
    origin->url = url;
    return *origins.emplace(std::move(key), std::move(origin)).first->second;
}

void ClientPool::start(const std::shared_ptr<CallState>& state) {
    ClientOrigin& origin = origin_of(state->url);
    if (origin.waiting.size() >= Client::most_waiting) {
        state->error = std::make_error_code(std::errc::resource_unavailable_try_again);
        refused_.push_back(state);
        return state->deadline.start(Duration::zero());
    }
    state->origin = &origin;
    origin.waiting.push_back(state);
    try {
        pump(origin);
    } catch (...) {
        std::erase(origin.waiting, state);
        state->origin = nullptr;
        throw;
    }
}

void ClientPool::pump(ClientOrigin& origin) {
    while (!origin.waiting.empty()) {
        const auto idle =
            std::find_if(origin.links.rbegin(), origin.links.rend(), [](auto& link) { return link->idle; });
        if (idle == origin.links.rend()) break;
        (*idle)->idle = false;
        const std::shared_ptr<CallState> state = std::move(origin.waiting.front());
        origin.waiting.pop_front();
        (*idle)->connection->put(state);
    }
    const auto coming = [&origin] {
        return std::size_t(
            std::count_if(origin.links.begin(), origin.links.end(), [](const auto& link) { return !link->connected; }));
    };
    while (coming() < origin.waiting.size() && origin.links.size() < options.connections) connect(origin);
}

void ClientPool::connect(ClientOrigin& origin) {
    const Url& to = proxy ? *proxy : origin.url;
    auto link = std::make_unique<ClientLink>(origin);
    link->connector = std::make_unique<Connector>(
        reactor, options.address.empty() ? to.host : options.address, to.port,
        [this, link = link.get()] { return make_protocol(*link); }, options.connector);
    origin.links.push_back(std::move(link));
}

std::unique_ptr<Protocol> ClientPool::make_protocol(ClientLink& link) {
    std::unique_ptr<Protocol> protocol = std::make_unique<ClientConnection>(*this, link);
    const Url& url = link.origin.url;
    if (!url.secure) return protocol;
    protocol = options.secure(url.host, std::move(protocol));
    if (protocol == nullptr || !proxy) return protocol;
    const std::string host = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
    return through_tunnel(host + ":" + std::to_string(url.port), options.connector.timeout, std::move(protocol));
}

void ClientPool::forget(const std::shared_ptr<CallState>& state) noexcept {
    ClientOrigin* const origin = state->origin;
    if (state->connection != nullptr) {
        state->connection->abort();
    } else if (origin != nullptr) {
        std::erase(origin->waiting, state);
    }
    std::erase(refused_, state);
    state->drop();
    if (origin == nullptr) return;
    try {
        pump(*origin);
    } catch (...) {  // out of memory: the next call tries again
    }
}

void ClientPool::out_of_time(const std::shared_ptr<CallState>& state) {
    auto answered = std::move(state->answered);
    auto part = std::move(state->part);
    const std::error_code error = state->error;
    forget(state);
    if (answered) return answered(error, Response());
    if (part) part(error, {}, true);
}

void ClientPool::connected(ClientLink& link) {
    link.connected = true;
    link.connector.reset();
    released(link);
}

void ClientPool::released(ClientLink& link) {
    link.idle = true;
    link.idle_since = reactor.now();
    pump(link.origin);
    close_idle();
}

/// Closes those that have been idle for longest, where there are too many.
void ClientPool::close_idle() noexcept {
    for (;;) {
        std::size_t count = 0;
        ClientLink* oldest = nullptr;
        for (const auto& [key, origin] : origins) {
            for (const auto& link : origin->links) {
                if (!link->idle) continue;
                ++count;
                if (oldest == nullptr || link->idle_since < oldest->idle_since) oldest = link.get();
            }
        }
        if (count <= options.idle) return;
        oldest->connection->close_in_order();
    }
}

void ClientPool::remove(ClientLink& link) noexcept {
    std::erase_if(link.origin.links, [&link](const auto& each) { return each.get() == &link; });
}

void ClientPool::failed(ClientLink& link, std::error_code error) {
    ClientOrigin& origin = link.origin;
    remove(link);
    std::shared_ptr<CallState> state;
    if (!origin.waiting.empty()) {
        state = std::move(origin.waiting.front());
        origin.waiting.pop_front();
    }
    pump(origin);
    if (state != nullptr) state->fail(error);
}

void ClientPool::failed_silently(ClientLink& link) noexcept {
    ClientOrigin& origin = link.origin;
    remove(link);
    if (origin.waiting.empty()) return;
    try {
        const std::shared_ptr<CallState> state = origin.waiting.front();
        refused_.push_back(state);
        state->error = std::make_error_code(std::errc::connection_aborted);
        state->deadline.start(Duration::zero());
        origin.waiting.pop_front();
        state->origin = nullptr;
    } catch (...) {  // out of memory: it has its time limit
    }
}

void ClientPool::repeat(const std::shared_ptr<CallState>& state) {
    state->repeated = true;
    ClientOrigin& origin = *state->origin;
    std::vector<ClientConnection*> idle;
    for (const auto& link : origin.links)
        if (link->idle) idle.push_back(link->connection);
    for (ClientConnection* const connection : idle) connection->close_in_order();
    origin.waiting.push_front(state);
    pump(origin);
}

void ClientPool::follow(const std::shared_ptr<CallState>& state, const Url& url, int status) {
    ClientRequest& request = state->request;
    if (url.host.empty()) return state->fail(Problem::bad_redirect);
    if (state->redirects_left == 0) return state->fail(Problem::too_many_redirects);
    --state->redirects_left;
    if (url.secure && !options.secure) return state->fail(std::make_error_code(std::errc::protocol_not_supported));
    const bool becomes_get =
        (status == 303 && request.method != "HEAD") || ((status == 301 || status == 302) && request.method == "POST");
    if (becomes_get) {
        request.method = "GET";
        request.content.clear();
        request.type.clear();
        request.in_parts = false;
        request.length.reset();
        std::erase_if(request.fields, [](const auto& field) {
            return same_token(std::string_view(field.first).substr(0, 8), "content-");
        });
    }
    state->url = url;
    state->repeated = false;
    try {
        start(state);
    } catch (const std::bad_alloc&) {
        state->fail(std::make_error_code(std::errc::not_enough_memory));
    }
}

}  // namespace reactor::http
