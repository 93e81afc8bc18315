#include <protocols/http/server_connection.hpp>

#include <protocols/http/server_connection_impl.hpp>
#include <protocols/http/service_impl.hpp>
#include <protocols/http/status.hpp>
#include <reactor/reactor.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace reactor::http {

namespace {

/// 00 to 99.
constexpr std::array<char, 200> make_pairs() {
    std::array<char, 200> pairs{};
    for (std::size_t number = 0; number < 100; ++number) {
        pairs[number * 2] = static_cast<char>('0' + number / 10);
        pairs[number * 2 + 1] = static_cast<char>('0' + number % 10);
    }
    return pairs;
}
constexpr std::array<char, 200> pairs = make_pairs();

/// The digits of a number, of which nearly all are short. There is room for 32 characters, also for those behind.
char* write_number(char* to, std::uint64_t number) noexcept {
    std::array<char, 64> text;
    char* const end = text.data() + 32;
    char* at = end;
    const auto put_pair = [&at](std::uint64_t pair) noexcept { std::memcpy(at -= 2, &pairs[pair * 2], 2); };
    for (; number >= 100; number /= 100) put_pair(number % 100);
    if (number >= 10) {
        put_pair(number);
    } else {
        *--at = static_cast<char>('0' + number);
    }
    std::memcpy(to, at, 32);
    return to + (end - at);
}

}  // namespace

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

[[gnu::always_inline]] inline void ServerConnection::begin_request(const RequestHead& head, bool whole_input) {
    unset(keep_alive | old | without_content | expects_continue | begun | in_chunks);
    set(answering | asked);
    if (head.keep_alive && !is(drained)) set(keep_alive);
    if (!head.keep_alive && whole_input) set(last_input);
    if (head.minor_version == 0) set(old);
    if (head.method == "HEAD") set(without_content);
    if (service_->on_access_) begin_log(head);
    if (head.chunked || head.content_length.value_or(0) > 0) {
        unset(last_input);
        if (head.content_length.value_or(0) > service_->options_.content) return refuse(Problem::body_too_long);
        work().content = BodyDecoder(head);
        if (head.expects_continue) set(expects_continue);
    }
    try {
        service_->dispatch(head, *this, transport());
    } catch (...) {
        handler_failed(std::current_exception());
    }
}

/// Returns how many bytes the request's head took; 0 if it is incomplete.
[[gnu::always_inline]] inline std::size_t ServerConnection::take_request(Bytes input) {
    RequestHead head;
    const Parsed parsed = parser_.request(input, head, service_->options_.head);
    if (parsed.state == Parsed::State::need_more) {
        wait_for_head();
        return 0;
    }
    work_.reset();  // of the request before, or the timer of this one
    if (parsed.state == Parsed::State::refused) {
        refuse(parsed.problem);
        return input.size();
    }
    transport().message_received();
    begin_request(head, parsed.consumed == input.size());
    return parsed.consumed;
}

std::size_t ServerConnection::received(Bytes input) {
    std::size_t consumed = 0;
    while (consumed < input.size() && !is(ending | handed_over)) {
        const Bytes rest = input.subspan(consumed);
        std::size_t taken = 0;
        if (content_to_come()) {
            taken = take_content(rest);
        } else if (!is(answering)) {
            taken = take_request(rest);
        } else {  // the next request has to wait
            hold();
        }
        consumed += taken;
        if (taken == 0 || !transport().reading()) break;
    }
    return is(ending) ? input.size() : consumed;
}

/// Nothing is read until release().
void ServerConnection::hold() {
    if (is(held)) return;
    set(held);
    unset(last_input);
    transport().pause_reading();
}

void ServerConnection::release() {
    if (!is(held)) return;
    unset(held);
    transport().resume_reading();
}

void ServerConnection::wait_for_head() {
    const Duration limit = service_->options_.head_timeout;
    if (limit <= Duration::zero() || (work_ != nullptr && work_->head_timer)) return;
    work().head_timer.emplace(transport().reactor(), [this] { refuse(Problem::timed_out); });
    work_->head_timer->start(limit);
}

void ServerConnection::begin_log(const RequestHead& head) {
    Work& log = work();
    log.logged = true;
    log.method = head.method;
    log.target = head.target;
    log.begin = transport().reactor().turn_time();
}

/// The exchange, if it was not moved to elsewhere, has answered 500.
void ServerConnection::handler_failed(std::exception_ptr thrown) {
    unset(keep_alive);
    transport().reactor().post([thrown = std::move(thrown)] { std::rethrow_exception(thrown); });
    if (!is(answering) && !is(ending)) {
        set(ending);
        transport().close();
    }
}

std::size_t ServerConnection::take_content(Bytes input) {
    Work& work = *work_;
    if (is(answering) && (work.receive == nullptr || work.paused)) {
        hold();  // nothing has asked for it yet: it waits, and so does the client
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
    if (!is(answering) && !parser_.begun()) {
        if (is(asked)) return transport().close();
        // The first request is on its way. A client asks again if a connection ends that was used before, but not if a
        // new one does (Chromium: ERR_EMPTY_RESPONSE).
        work().head_timer.emplace(transport().reactor(),
                                  [this] { parser_.begun() ? refuse(Problem::timed_out) : transport().close(); });
        work_->head_timer->start(std::chrono::seconds(1));
    }
    unset(keep_alive);
    set(drained);
}

void ServerConnection::disconnected(std::error_code reason) {
    set(ending);
    let_go();
    if (work_ == nullptr) return;
    work_->head_timer.reset();  // before the loop
    if (work_->receive != nullptr && content_to_come()) {
        (*work_->receive)(reason ? reason : make_error_code(Problem::ended_inside_message), {}, true);
    }
}

void ServerConnection::resume_writing() {
    if (work_ != nullptr && work_->writable != nullptr && is(answering)) (*work_->writable)();
}

// ── output ──

/// The head of an answer, and its content if that is there and small.
[[gnu::always_inline]] inline void ServerConnection::compose(int status, std::string_view type,
                                                             std::optional<std::uint64_t> length,
                                                             std::string_view content) {
    // A client that waits for 100 may send its content or not after another answer: only the end of the connection says
    // where the next request would begin.
    if (is(expects_continue)) unset(keep_alive);
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
    const auto put = [&at]<std::size_t with_nul>(const char(&text)[with_nul]) noexcept {
        std::memcpy(at, text, with_nul - 1);
        at += with_nul - 1;
    };
    // Not memcpy(3): that may not be given the null pointer of an empty text.
    const auto put_text = [&at](std::string_view text) noexcept { at = std::copy(text.begin(), text.end(), at); };
    at = service_->tables_->start.write(at, status, transport().reactor().turn_time());
    if (!type.empty()) {
        put("\r\nContent-Type: ");
        put_text(type);
    }
    if (is(in_chunks)) put("\r\nTransfer-Encoding: chunked");
    // RFC 9110, 8.6: never with 1xx and 204.
    if (length && status >= 200 && status != 204) {
        put("\r\nContent-Length: ");
        at = write_number(at, *length);
    }
    if (status == 101) {
        put("\r\nConnection: upgrade");
    } else if (!is(keep_alive)) {
        put("\r\nConnection: close");
    } else if (is(old)) {
        put("\r\nConnection: keep-alive");
    }
    put("\r\n");
    if (!fields.empty()) put_text(fields);
    put("\r\n");
    if (is(without_content)) content = {};
    if (work_ != nullptr) {
        work_->status = status;
        work_->written += content.size();
    }
    if (content.size() <= std::size_t(end - at)) {
        put_text(content);
        transport().write(std::string_view(begin, std::size_t(at - begin)));
        return;
    }
    transport().write(std::string_view(begin, std::size_t(at - begin)));
    transport().write(content);
}

void ServerConnection::write_head(int status, std::string_view type, std::optional<std::uint64_t> length,
                                  std::string_view content) {
    compose(status, type, length, content);
}

void ServerConnection::answer(int status, std::string_view content, std::string_view type) {
    require_possible(status, type);
    if (is(begun)) throw_begun();
    const bool has_none = status == 204 || status == 304;
    compose(status, content.empty() ? std::string_view() : type,
            has_none ? std::nullopt : std::optional<std::uint64_t>(content.size()),
            has_none ? std::string_view() : content);
    finish();
}

void ServerConnection::answer_with_file(int status, FileDescriptor file, std::string_view type, std::uint64_t offset,
                                        std::uint64_t length) {
    const std::uint64_t size = Transport::length_of(file, offset, length);
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

void ServerConnection::finish_work() {
    if (work_->logged) {
        const Access access{transport().peer(), work_->method,  work_->target,
                            work_->status,      work_->written, transport().reactor().turn_time() - work_->begin};
        service_->on_access_(access);
    }
    work_->writable.reset();
    work_->receive.reset();
    work_->paused = false;
    if (work_->content.complete()) work_.reset();
}

/// Something will take the content: says so to a client that waits for it.
void ServerConnection::ask_for_content() {
    if (is(expects_continue)) {
        unset(expects_continue);
        transport().write("HTTP/1.1 100 Continue\r\n\r\n");
    }
    if (!work_->paused) release();
}

}  // namespace reactor::http
