#include <protocols/http/server_connection.hpp>

#include <protocols/http/body.hpp>
#include <protocols/http/scan_impl.hpp>
#include <protocols/http/service_impl.hpp>
#include <protocols/http/status.hpp>
#include <reactor/detail/callback.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace reactor::http {

/// The part of a connection's state that most requests do not need.
struct ServerConnection::Work {
    using Receive = Callback<void(std::error_code, Bytes, bool)>;

    BodyDecoder content;
    std::unique_ptr<Receive> receive;
    bool paused = false;
    std::string fields;      // of the answer, each with its line end
    std::uint64_t left = 0;  // bytes that the answer still owes, if it has a length
    bool has_length = false;
    std::unique_ptr<Callback<void()>> writable;
    std::optional<Timer> head_timer;  // while a head is incomplete
    // For the log.
    bool logged = false;
    std::string method, target;
    int status = 0;
    std::uint64_t written = 0;
    TimePoint begin{};
};

ServerConnection::ServerConnection(std::shared_ptr<Service> service) noexcept : service_(std::move(service)) {
    ++service_->connections_;
}

ServerConnection::~ServerConnection() {
    let_go();
    --service_->connections_;
}

ServerConnection::Work& ServerConnection::work() {
    if (work_ == nullptr) work_ = std::make_unique<Work>();
    return *work_;
}

bool ServerConnection::content_to_come() const noexcept {
    return work_ != nullptr && !work_->content.complete();
}

/// The exchange, if there is one, is of nothing from now on.
void ServerConnection::let_go() noexcept {
    if (exchange_ != nullptr) exchange_->connection_ = nullptr;
    exchange_ = nullptr;
}

// ── input ──

std::size_t ServerConnection::received(Bytes input) {
    if (upgraded_ != nullptr) return upgraded_->received(input);
    set(receiving);
    std::size_t consumed = 0;
    while (consumed < input.size()) {
        if (is(ending)) {
            consumed = input.size();
            break;
        }
        const Bytes rest = input.subspan(consumed);
        std::size_t taken = 0;
        if (upgraded_ != nullptr) {
            taken = upgraded_->received(rest);
            consumed += taken;
            break;
        }
        if (content_to_come()) {
            taken = take_content(rest);
        } else if (!is(answering)) {
            taken = take_request(rest);
        } else if (!is(held)) {  // the next request has to wait
            set(held);
            transport().pause_reading();
        }
        consumed += taken;
        if (taken == 0 || !transport().reading()) break;
    }
    unset(receiving);
    return is(ending) ? input.size() : consumed;
}

/// Returns how many bytes the request's head took; 0 if it is incomplete.
std::size_t ServerConnection::take_request(Bytes input) {
    RequestHead head;
    const Parsed parsed = parser_.request(input, head, service_->options_.head);
    if (parsed.state == Parsed::State::need_more) {
        wait_for_head();
        return 0;
    }
    if (work_ != nullptr) work_->head_timer.reset();
    if (parsed.state == Parsed::State::refused) {
        refuse(parsed.problem);
        return input.size();
    }
    transport().message_received();
    begin_request(head);
    return parsed.consumed;
}

void ServerConnection::wait_for_head() {
    const Duration limit = service_->options_.head_timeout;
    if (limit <= Duration::zero() || (work_ != nullptr && work_->head_timer)) return;
    work().head_timer.emplace(transport().reactor(), [this] { refuse(Problem::timed_out); });
    work_->head_timer->start(limit);
}

void ServerConnection::begin_request(const RequestHead& head) {
    unset(keep_alive | old | without_content | expects_continue | begun | in_chunks);
    set(answering);
    if (head.keep_alive && !is(drained)) set(keep_alive);
    if (head.minor_version == 0) set(old);
    if (head.method == "HEAD") set(without_content);
    if (work_ != nullptr) *work_ = Work();
    if (service_->on_access_) {
        Work& log = work();
        log.logged = true;
        log.method = head.method;
        log.target = head.target;
        log.begin = transport().reactor().turn_time();
    }
    if (head.chunked || head.content_length.value_or(0) > 0) {
        if (head.content_length.value_or(0) > service_->options_.content) return refuse(Problem::body_too_long);
        work().content = BodyDecoder(head);
        if (head.expects_continue) set(expects_continue);
    }
    try {
        service_->dispatch(head, Exchange(*this), transport());
    } catch (...) {
        // The exchange, if it was not moved to elsewhere, has answered 500.
        unset(keep_alive);
        transport().reactor().post([thrown = std::current_exception()] { std::rethrow_exception(thrown); });
        if (!is(answering) && !is(ending)) {
            set(ending);
            transport().close();
        }
    }
}

std::size_t ServerConnection::take_content(Bytes input) {
    Work& work = *work_;
    if (is(answering) && (work.receive == nullptr || work.paused)) {
        // Nothing has asked for it yet: it waits, and so does the client.
        if (!is(held)) {
            set(held);
            transport().pause_reading();
        }
        return 0;
    }
    const BodyDecoder::Part part = work.content.next(input, {.content = service_->options_.content});
    if (part.parsed.state == Parsed::State::refused) {
        const Problem problem = part.parsed.problem;
        if (work.receive != nullptr) (*work.receive)(problem, {}, true);
        refuse(problem);
        return input.size();
    }
    const bool last = part.parsed.state == Parsed::State::complete;
    unset(expects_continue);  // it sends without having been asked
    if (work.receive != nullptr && (last || !part.content.empty())) {
        (*work.receive)({}, part.content, last);
    }
    return part.parsed.consumed;
}

void ServerConnection::end_of_stream() {
    if (upgraded_ != nullptr) return upgraded_->end_of_stream();
    if (content_to_come()) {
        if (work_->receive != nullptr) (*work_->receive)(Problem::ended_inside_message, {}, true);
        return refuse(Problem::ended_inside_message);
    }
    // A client that has shut its side may still wait for its answer.
    if (is(answering)) return unset(keep_alive);
    transport().close();
}

/// Answers that the request cannot be understood, and closes. After the head of an answer only a reset can say so.
void ServerConnection::refuse(Problem problem) {
    if (is(ending)) return;
    set(ending);
    let_go();
    if (is(begun) && is(answering)) return transport().abort(problem);
    unset(keep_alive | in_chunks | begun);
    if (!is(answering)) unset(without_content);  // of the request before
    if (work_ != nullptr) work_->fields.clear();
    const std::string text = std::string(describe(problem)) + "\n";
    write_head(status_for(problem), "text/plain; charset=utf-8", text.size(), text);
    if (service_->on_access_ && (work_ == nullptr || !work_->logged)) {
        service_->on_access_({transport().peer(), {}, {}, status_for(problem), text.size(), {}});
    }
    finish();
}

// ── the end ──

void ServerConnection::draining() {
    if (upgraded_ != nullptr) return upgraded_->draining();
    if (!is(answering) && !parser_.begun()) return transport().close();
    unset(keep_alive);
    set(drained);
}

void ServerConnection::closing() {
    if (upgraded_ != nullptr) upgraded_->closing();
}

void ServerConnection::disconnected(std::error_code reason) {
    if (upgraded_ != nullptr) return upgraded_->disconnected(reason);
    set(ending);
    let_go();
    if (work_ == nullptr) return;
    work_->head_timer.reset();  // before the loop
    if (work_->receive != nullptr && content_to_come()) {
        (*work_->receive)(reason ? reason : make_error_code(Problem::ended_inside_message), {}, true);
    }
}

void ServerConnection::pause_writing() {
    if (upgraded_ != nullptr) upgraded_->pause_writing();
}

void ServerConnection::resume_writing() {
    if (upgraded_ != nullptr) return upgraded_->resume_writing();
    if (work_ != nullptr && work_->writable != nullptr && is(answering)) (*work_->writable)();
}

// ── output ──

/// The head of an answer, and its content if that is there and small.
void ServerConnection::write_head(int status, std::string_view type, std::optional<std::uint64_t> length,
                                  std::string_view content) {
    std::array<char, 1024> room;
    std::unique_ptr<char[]> larger;
    const std::string_view fields = work_ == nullptr ? std::string_view() : std::string_view(work_->fields);
    const std::size_t needed = 256 + type.size() + fields.size();
    char* at = room.data();
    const char* end = at + room.size();
    if (needed > room.size()) {
        larger.reset(new char[needed]);
        at = larger.get();
        end = at + needed;
    }
    const char* const begin = at;
    // Not memcpy(3): that may not be given the null pointer of an empty text.
    const auto put = [&at](std::string_view text) noexcept { at = std::copy(text.begin(), text.end(), at); };
    put("HTTP/1.1 ");
    at = std::to_chars(at, at + 3, status).ptr;
    put(" ");
    put(reason_phrase(status));
    put("\r\nDate: ");
    put(service_->tables_->date.at(transport().reactor().turn_time()));
    if (!type.empty()) {
        put("\r\nContent-Type: ");
        put(type);
    }
    if (is(in_chunks)) put("\r\nTransfer-Encoding: chunked");
    // RFC 9110, 8.6: never with 1xx and 204.
    if (length && status >= 200 && status != 204) {
        put("\r\nContent-Length: ");
        at = std::to_chars(at, at + 20, *length).ptr;
    }
    if (status == 101) {
        put("\r\nConnection: upgrade");
    } else if (!is(keep_alive)) {
        put("\r\nConnection: close");
    } else if (is(old)) {
        put("\r\nConnection: keep-alive");
    }
    put("\r\n");
    put(fields);
    put("\r\n");
    if (work_ != nullptr) work_->status = status;
    if (is(without_content)) content = {};
    if (work_ != nullptr) work_->written += content.size();
    if (content.size() <= std::size_t(end - at)) {
        put(content);
        transport().write(std::string_view(begin, std::size_t(at - begin)));
        return;
    }
    transport().write(std::string_view(begin, std::size_t(at - begin)));
    transport().write(content);
}

void ServerConnection::answer(int status, std::string_view content, std::string_view type) {
    // A client that waits for 100 may send its content or not after another answer: only the end of the connection says
    // where the next request would begin.
    if (is(expects_continue)) unset(keep_alive);
    const bool has_none = status == 204 || status == 304;
    write_head(status, content.empty() ? std::string_view() : type,
               has_none ? std::nullopt : std::optional<std::uint64_t>(content.size()),
               has_none ? std::string_view() : content);
    finish();
}

void ServerConnection::answer_with_file(int status, FileDescriptor file, std::string_view type, std::uint64_t offset,
                                        std::uint64_t length) {
    const std::uint64_t size = Transport::length_of(file, offset, length);
    if (is(expects_continue)) unset(keep_alive);
    write_head(status, type, size, {});
    if (work_ != nullptr) work_->written += is(without_content) ? 0 : size;
    if (size > 0 && !is(without_content)) transport().write_file(std::move(file), offset, size);
    finish();
}

bool ServerConnection::write_part(Bytes part) {
    Work& work = *work_;
    if (work.has_length) {
        if (part.size() > work.left) throw std::logic_error("http::Exchange: more content than the announced length");
        work.left -= part.size();
    }
    if (part.empty() || is(without_content)) return transport().open();
    work.written += part.size();
    if (!is(in_chunks)) return transport().write(part);
    std::array<char, 20> size;
    char* const end = std::to_chars(size.data(), size.data() + 16, part.size(), 16).ptr;
    const std::string_view line(size.data(), std::size_t(end - size.data()));
    constexpr std::size_t together = 2048;
    if (part.size() <= together) return transport().write(line, "\r\n", part, "\r\n");
    return transport().write(line, "\r\n") && transport().write(part) && transport().write("\r\n");
}

/// The answer is complete.
void ServerConnection::finish() {
    let_go();
    unset(answering);
    if (work_ != nullptr && work_->logged) {
        const Access access{transport().peer(), work_->method,  work_->target,
                            work_->status,      work_->written, transport().reactor().turn_time() - work_->begin};
        service_->on_access_(access);
    }
    if (work_ != nullptr) {
        work_->writable.reset();
        work_->receive.reset();
        work_->paused = false;
        if (work_->content.complete()) work_.reset();
    }
    if (!is(keep_alive)) {
        set(ending);
        return transport().close();
    }
    if (is(held)) {
        unset(held);
        transport().resume_reading();
    }
}

/// Something will take the content: says so to a client that waits for it.
void ServerConnection::ask_for_content() {
    if (is(expects_continue)) {
        unset(expects_continue);
        transport().write("HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (is(held) && !work_->paused) {
        unset(held);
        transport().resume_reading();
    }
}

// ── Exchange ──

Exchange::Exchange(ServerConnection& connection) noexcept : connection_(&connection) {
    connection.exchange_ = this;
}

void Exchange::take(Exchange& other) noexcept {
    connection_ = std::exchange(other.connection_, nullptr);
    if (connection_ != nullptr) connection_->exchange_ = this;
}

/// Destroyed without a complete answer.
void Exchange::abandon() noexcept {
    if (connection_ == nullptr) return;
    ServerConnection& connection = *connection_;
    try {
        if (connection.is(ServerConnection::begun)) {
            connection.let_go();
            connection.transport().abort(std::make_error_code(std::errc::operation_canceled));
        } else {
            if (connection.work_ != nullptr) connection.work_->fields.clear();
            connection.answer(500, "internal server error\n", "text/plain; charset=utf-8");
        }
    } catch (...) {  // out of memory
        connection.let_go();
        connection.transport().abort(std::make_error_code(std::errc::not_enough_memory));
    }
}

void Exchange::set(std::string_view name, std::string_view value) {
    static constexpr std::string_view ours[] = {"date", "connection", "content-length", "transfer-encoding"};
    const char* const name_end = name.data() + name.size();
    const char* const value_end = value.data() + value.size();
    const bool is_ours =
        std::any_of(std::begin(ours), std::end(ours), [&](auto each) { return same_token(name, each); });
    if (name.empty() || is_ours || scan::past(name.data(), name_end, scan::token) != name_end)
        throw std::invalid_argument("http::Exchange: not a field that can be set: " + std::string(name));
    if (scan::past_value(value.data(), value_end) != value_end)
        throw std::invalid_argument("http::Exchange: a control character in the value of " + std::string(name));
    if (connection_ == nullptr) return;
    std::string& fields = connection_->work().fields;
    fields.append(name).append(": ").append(value).append("\r\n");
}

void Exchange::close_after() noexcept {
    if (connection_ != nullptr) connection_->unset(ServerConnection::keep_alive);
}

namespace {

void check_status(int status) {
    if (status < 200 || status > 599)
        throw std::invalid_argument("http::Exchange: not the status of a final answer: " + std::to_string(status));
}

void check_type(std::string_view type) {
    if (scan::past_value(type.data(), type.data() + type.size()) != type.data() + type.size())
        throw std::invalid_argument("http::Exchange: a control character in a content type");
}

}  // namespace

void Exchange::answer(int status, std::string_view content, std::string_view type) {
    check_status(status);
    check_type(type);
    if (connection_ == nullptr) return;
    if (connection_->is(ServerConnection::begun)) throw std::logic_error("http::Exchange: the answer has begun");
    connection_->answer(status, content, type);
}

void Exchange::answer_with_file(int status, FileDescriptor file, std::string_view type, std::uint64_t offset,
                                std::uint64_t length) {
    check_status(status);
    check_type(type);
    if (connection_ == nullptr) return;
    if (connection_->is(ServerConnection::begun)) throw std::logic_error("http::Exchange: the answer has begun");
    connection_->answer_with_file(status, std::move(file), type, offset, length);
}

void Exchange::begin(int status, std::string_view type, std::optional<std::uint64_t> length) {
    check_status(status);
    check_type(type);
    if (connection_ == nullptr) return;
    ServerConnection& connection = *connection_;
    if (connection.is(ServerConnection::begun)) throw std::logic_error("http::Exchange: the answer has begun");
    ServerConnection::Work& work = connection.work();
    if (connection.is(ServerConnection::expects_continue)) connection.unset(ServerConnection::keep_alive);
    work.has_length = length.has_value() || status == 204 || status == 304;
    work.left = length.value_or(0);
    if (!work.has_length) {
        connection.is(ServerConnection::old) ? connection.unset(ServerConnection::keep_alive)
                                             : connection.set(ServerConnection::in_chunks);
    }
    connection.set(ServerConnection::begun);
    connection.write_head(status, type, length, {});
}

bool Exchange::write(Bytes part) {
    if (connection_ == nullptr) return false;
    if (!connection_->is(ServerConnection::begun)) throw std::logic_error("http::Exchange: write() before begin()");
    return connection_->write_part(part);
}

void Exchange::end() {
    if (connection_ == nullptr) return;
    ServerConnection& connection = *connection_;
    if (!connection.is(ServerConnection::begun)) throw std::logic_error("http::Exchange: end() before begin()");
    if (connection.work_->has_length && connection.work_->left > 0) return abandon();
    if (connection.is(ServerConnection::in_chunks) && !connection.is(ServerConnection::without_content)) {
        connection.transport().write("0\r\n\r\n");
    }
    connection.finish();
}

std::size_t Exchange::queued() const noexcept {
    return connection_ == nullptr ? 0 : connection_->transport().queued();
}

void Exchange::on_writable(MoveOnlyFunction<void()> callback) {
    if (connection_ == nullptr) return;
    connection_->work().writable =
        std::make_unique<Callback<void()>>(required(std::move(callback), "http::Exchange: an empty callback"));
}

void Exchange::receive(MoveOnlyFunction<void(std::error_code, Bytes, bool)> callback) {
    if (connection_ == nullptr) return;
    ServerConnection& connection = *connection_;
    auto receive = std::make_unique<ServerConnection::Work::Receive>(
        required(std::move(callback), "http::Exchange: an empty callback"));
    if (!connection.content_to_come()) return (*receive)({}, {}, true);
    connection.work_->receive = std::move(receive);
    connection.ask_for_content();
}

void Exchange::receive_all(std::size_t most, MoveOnlyFunction<void(Exchange, Bytes)> callback) {
    if (connection_ == nullptr) return;
    if (!callback) throw std::invalid_argument("http::Exchange: an empty callback");
    struct Gathering {
        Exchange exchange;
        std::string content;
        MoveOnlyFunction<void(Exchange, Bytes)> callback;
    };
    if (!connection_->content_to_come()) return callback(std::move(*this), {});
    if (connection_->work_->content.announced() > most) return connection_->refuse(Problem::body_too_long);
    Exchange* const self = this;
    ServerConnection& connection = *connection_;
    auto gathering = std::make_unique<Gathering>(Gathering{std::move(*self), {}, std::move(callback)});
    connection.work_->receive = std::make_unique<ServerConnection::Work::Receive>(
        [gathering = std::move(gathering), most](std::error_code error, Bytes part, bool last) mutable {
            if (error || gathering == nullptr) return;
            if (part.size() > most - gathering->content.size()) {
                return gathering->exchange.connection_->refuse(Problem::body_too_long);
            }
            gathering->content += text_of(part);
            if (!last) return;
            const auto complete = std::move(gathering);
            complete->callback(std::move(complete->exchange), bytes_of(complete->content));
        });
    connection.ask_for_content();
}

void Exchange::pause() {
    if (connection_ != nullptr && connection_->content_to_come()) connection_->work_->paused = true;
}

void Exchange::resume() {
    if (connection_ == nullptr || connection_->work_ == nullptr || !connection_->work_->paused) return;
    connection_->work_->paused = false;
    connection_->ask_for_content();
}

void Exchange::upgrade(std::string_view name, std::unique_ptr<Protocol> protocol) {
    set("Upgrade", name);
    if (protocol == nullptr) throw std::invalid_argument("http::Exchange: upgrade() needs a protocol");
    if (connection_ == nullptr) return;
    ServerConnection& connection = *connection_;
    if (connection.is(ServerConnection::begun)) throw std::logic_error("http::Exchange: the answer has begun");
    if (connection.content_to_come()) throw std::logic_error("http::Exchange: upgrade() before the content has come");
    connection.write_head(101, {}, std::nullopt, {});
    connection.let_go();
    connection.work_.reset();
    connection.upgraded_ = std::move(protocol);
    connection.lend_transport_to(*connection.upgraded_);
    connection.upgraded_->connected();
    if (connection.is(ServerConnection::held)) {
        connection.unset(ServerConnection::held);
        connection.transport().resume_reading();
    }
}

}  // namespace reactor::http
