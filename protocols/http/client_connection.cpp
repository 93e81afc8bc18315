// One connection of a client. It carries one call at a time: sends its request, parses the answer, and gives the
// connection back to the pool, which may use it again. A call of the program's may destroy the call, the client and all
// its connections, so it comes last in everything here, or the state is looked at again.
#include <protocols/http/client_impl.hpp>

#include <reactor/reactor.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>
#include <utility>

namespace reactor::http {

namespace {

/// Content of a redirect that is read so that the connection can be used again.
constexpr std::uint64_t most_thrown_away = 64 * 1024;

bool is_idempotent(std::string_view method) noexcept {
    static constexpr std::string_view methods[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    return std::find(std::begin(methods), std::end(methods), method) != std::end(methods);
}

}  // namespace

ClientConnection::~ClientConnection() {
    if (pool_ == nullptr) return;
    // It was made, and there was no memory to go on.
    ClientPool& pool = *pool_;
    ClientLink& link = *link_;
    if (const auto call = let_go_of_call()) call->drop();
    let_go();
    pool.failed_silently(link);
}

// ── the pool ──

void ClientConnection::connected() {
    if (pool_ == nullptr) return transport().abort();
    pool_->connected(*link_);
}

std::shared_ptr<CallState> ClientConnection::let_go_of_call() noexcept {
    if (call_ != nullptr) call_->connection = nullptr;
    to_go_on_.reset();
    redirect_.reset();
    return std::move(call_);
}

void ClientConnection::let_go() noexcept {
    pool_ = nullptr;
    link_ = nullptr;
}

void ClientConnection::close_in_order() noexcept {
    pool_->remove(*link_);
    let_go();
    transport().close();
}

void ClientConnection::abort() noexcept {
    const bool stands = link_->connected;  // otherwise `connected` ends it
    pool_->remove(*link_);
    let_go();
    if (const auto call = let_go_of_call()) call->drop();
    if (stands) transport().abort();
}

/// How long nothing may come.
void ClientConnection::watch(Duration time) {
    Limits limits = transport().limits();
    time = std::max(time, Duration::zero());
    if (limits.receive_timeout == time) return;
    limits.receive_timeout = time;
    transport().set_limits(limits);
}

// ── the request ──

void ClientConnection::put(std::shared_ptr<CallState> call) {
    call_ = std::move(call);
    call_->connection = this;
    parser_ = HeadParser();
    reading_content_ = heard_ = sent_ = false;
    keep_ = pool_->options.idle > 0;
    watch(Duration::zero());
    const ClientRequest& request = call_->request;
    const std::string head = head_of(*call_, pool_->options, pool_->proxy && !call_->url.secure);
    const bool waits = request.expects_continue && (request.in_parts || !request.content.empty());
    if (waits || request.in_parts || request.content.empty()) {
        transport().write(head);
    } else {
        transport().write(head, request.content);
        sent_ = true;
    }
    if (sent_) return;
    if (!waits) return send_content();
    to_go_on_.emplace(pool_->reactor, [this] { send_content(); });
    to_go_on_->start(std::chrono::seconds(1));
}

/// The content, where it has not left with the head.
void ClientConnection::send_content() {
    if (sent_ || call_ == nullptr || call_->may_write) return;
    const ClientRequest& request = call_->request;
    if (!request.in_parts) {
        sent_ = true;
        if (!request.content.empty()) transport().write(request.content);
        return;
    }
    left_ = request.length.value_or(0);
    call_->may_write = true;
    CallState::call_writable_soon(call_);
}

bool ClientConnection::write_part(Bytes part) {
    const bool in_chunks = !call_->request.length;
    if (!in_chunks && part.size() > left_) throw std::logic_error("http::Call: more content than the announced length");
    if (part.empty()) return transport().open();
    if (!in_chunks) {
        left_ -= part.size();
        return transport().write(part);
    }
    std::array<char, 16> size;
    char* const end = std::to_chars(size.data(), size.data() + size.size(), part.size(), 16).ptr;
    const std::string_view line(size.data(), std::size_t(end - size.data()));
    return transport().write(line, "\r\n", part, "\r\n");
}

void ClientConnection::end_parts() {
    const bool in_chunks = !call_->request.length;
    if (!in_chunks && left_ > 0) throw std::logic_error("http::Call: less content than the announced length");
    call_->may_write = false;
    sent_ = true;
    if (in_chunks) transport().write("0\r\n\r\n");
}

void ClientConnection::resume() {
    transport().resume_reading();
}

void ClientConnection::resume_writing() {
    if (call_ == nullptr || !call_->may_write || call_->writable == nullptr) return;
    const auto call = call_;
    (*call->writable)();
}

// ── the answer ──

std::size_t ClientConnection::received(Bytes input) {
    std::size_t consumed = 0;
    // Nothing was asked: it is no answer to anything that will be.
    if (call_ == nullptr && pool_ != nullptr) close_in_order();
    while (call_ != nullptr && consumed < input.size()) {
        const Bytes rest = input.subspan(consumed);
        const std::size_t taken = reading_content_ ? take_content(rest) : take_head(rest);
        consumed += taken;
        if (taken == 0 || !transport().reading()) break;
    }
    return call_ == nullptr ? input.size() : consumed;
}

/// Returns how many bytes it took; 0 if it is incomplete.
std::size_t ClientConnection::take_head(Bytes input) {
    heard_ = true;
    ResponseHead head;
    const Parsed parsed = parser_.response(input, head, pool_->options.head);
    if (parsed.state == Parsed::State::need_more) return 0;
    if (parsed.state == Parsed::State::refused) {
        fail(parsed.problem);
    } else if (head.status == 101) {  // nothing was offered
        fail(std::make_error_code(std::errc::protocol_error));
    } else if (head.status == 100) {
        send_content();
    } else if (head.status >= 200) {
        take_final_head(head, text_of(input.first(parsed.consumed)), input.size() > parsed.consumed);
    }
    return parsed.consumed == 0 ? input.size() : parsed.consumed;
}

/// Where the answer leads to, if it is a redirect that is followed. An URL without a host: to nowhere.
std::optional<Url> ClientConnection::redirect(const ResponseHead& head) {
    const int status = head.status;
    const bool redirects = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    const std::optional<std::string_view> location = head.fields()["Location"];
    if (!redirects || !location || pool_->options.redirects == 0) return std::nullopt;
    const std::string& method = call_->request.method;
    const bool again = status >= 307 || (status != 303 && method != "POST");
    if (call_->request.in_parts && again) return std::nullopt;
    std::optional<Url> url = parse_url(*location, call_->url);
    if (!url || (call_->url.secure && !url->secure)) url.emplace();
    return url;
}

void ClientConnection::take_final_head(const ResponseHead& head, std::string_view text, bool more) {
    to_go_on_.reset();
    if (head.status >= 300) call_->may_write = false;  // the content is not wanted (RFC 9112, 9.5)
    keep_ = keep_ && head.keep_alive;
    content_ = BodyDecoder(head, call_->request.method);
    redirect_ = redirect(head);
    status_ = head.status;
    reading_content_ = true;
    if (!redirect_) {
        call_->deadline.cancel();
        Response response(head, text, call_->url.to_string());
        if (call_->answered) {
            if (content_.announced() > pool_->options.content) return fail(Problem::body_too_long);
            response_ = std::move(response);
            response_.content_.reserve(static_cast<std::size_t>(content_.announced()));
        } else if (call_->head) {
            const auto call = call_;
            call->head(std::move(response));
            if (call_ == nullptr) return;
        }
    }
    content_.complete() ? finish({}, more) : watch(pool_->options.idle_timeout);
}

std::size_t ClientConnection::take_content(Bytes input) {
    if (call_->paused && !redirect_) {
        transport().pause_reading();
        return 0;
    }
    BodyLimits limits;
    if (redirect_) {
        limits.content = most_thrown_away;
    } else if (call_->answered) {
        limits.content = pool_->options.content;
    }
    const BodyDecoder::Part part = content_.next(input, limits);
    if (part.parsed.state == Parsed::State::refused) {
        fail(part.parsed.problem);
        return input.size();
    }
    const std::size_t consumed = part.parsed.consumed;
    if (part.parsed.state == Parsed::State::complete) {
        finish(part.content, consumed < input.size());
    } else if (call_->answered) {
        if (!redirect_) response_.content_ += text_of(part.content);
    } else if (!redirect_ && !part.content.empty()) {
        const auto call = call_;
        call->part({}, part.content, false);
    }
    return consumed;
}

/// The answer is complete. `more`: there is input behind it, which nothing has asked for.
void ClientConnection::finish(Bytes last_part, bool more) {
    const bool keep = keep_ && sent_ && !more && !content_.until_end() && transport().open();
    const std::optional<Url> redirected = std::exchange(redirect_, std::nullopt);
    Response response = std::exchange(response_, Response());
    const auto call = let_go_of_call();
    ClientPool& pool = *pool_;
    used_ = true;
    if (keep) {
        watch(pool.options.idle_timeout);
        pool.released(*link_);
    } else {
        ClientOrigin& origin = link_->origin;
        close_in_order();
        pool.pump(origin);
    }
    if (redirected) return pool.follow(call, *redirected, status_);
    auto answered = std::move(call->answered);
    auto part = std::move(call->part);
    call->drop();
    if (part) return part({}, last_part, true);
    response.content_ += text_of(last_part);
    if (answered) answered({}, std::move(response));
}

void ClientConnection::fail(std::error_code error) {
    if (redirect_) {  // only the content that nothing needs is not complete
        keep_ = false;
        return finish({}, true);
    }
    const auto call = let_go_of_call();
    ClientPool& pool = *pool_;
    ClientOrigin& origin = link_->origin;
    pool.remove(*link_);
    let_go();
    response_ = Response();
    transport().abort();
    pool.pump(origin);
    call->fail(error);
}

/// The request is sent again, if it may be.
void ClientConnection::end_in_the_place_of_an_answer(std::error_code error) {
    const ClientRequest& request = call_->request;
    const bool may_repeat = !request.in_parts && (request.repeatable || is_idempotent(request.method));
    if (!used_ || heard_ || call_->repeated || !may_repeat) return fail(error);
    const auto call = let_go_of_call();
    ClientPool& pool = *pool_;
    close_in_order();
    pool.repeat(call);
}

// ── the end ──

void ClientConnection::end_of_stream() {
    if (call_ == nullptr) {
        if (pool_ != nullptr) return close_in_order();
        return transport().close();
    }
    if (!reading_content_) {
        return end_in_the_place_of_an_answer(heard_ ? make_error_code(Problem::ended_inside_message)
                                                    : std::make_error_code(std::errc::connection_reset));
    }
    const Parsed end = content_.end();
    end.state == Parsed::State::complete ? finish({}, false) : fail(end.problem);
}

void ClientConnection::draining() {
    if (call_ == nullptr) return transport().close();
    keep_ = false;
}

void ClientConnection::closing() {
    if (pool_ == nullptr || call_ != nullptr || !link_->connected) return;
    pool_->remove(*link_);
    let_go();
}

void ClientConnection::disconnected(std::error_code reason) {
    if (pool_ == nullptr) return;
    const std::error_code error = reason ? reason : std::make_error_code(std::errc::connection_reset);
    if (call_ != nullptr) return reading_content_ ? fail(error) : end_in_the_place_of_an_answer(error);
    ClientPool& pool = *pool_;
    ClientLink& link = *link_;
    let_go();
    link.connected ? pool.remove(link) : pool.failed(link, error);
}

}  // namespace reactor::http
