// An exchange and its connection point at each other: moving one moves the pointer, and the end of either clears it. So
// a handler may keep the exchange anywhere, and nothing is allocated for it.
#include <protocols/http/exchange.hpp>

#include <protocols/http/scan_impl.hpp>
#include <protocols/http/server_connection_impl.hpp>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace reactor::http {

void throw_impossible(int status) {
    if (!is_final(status))
        throw std::invalid_argument("http::Exchange: not the status of a final answer: " + std::to_string(status));
    throw std::invalid_argument("http::Exchange: a control character in a content type");
}

void throw_begun() {
    throw std::logic_error("http::Exchange: the answer has begun");
}

Exchange::Exchange(ServerConnection& connection) noexcept : connection_(&connection) {
    connection.exchange_ = this;
}

void Exchange::take(Exchange& other) noexcept {
    connection_ = std::exchange(other.connection_, nullptr);
    if (connection_ != nullptr) connection_->exchange_ = this;
}

/// Destroyed without a complete answer.
void Exchange::abandon() noexcept {
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
    const bool is_ours =
        std::any_of(std::begin(ours), std::end(ours), [&](auto each) { return same_token(name, each); });
    if (name.empty() || is_ours || !scan::all_in_token(name))
        throw std::invalid_argument("http::Exchange: not a field that can be set: " + std::string(name));
    if (!scan::all_in_value(value))
        throw std::invalid_argument("http::Exchange: a control character in the value of " + std::string(name));
    if (connection_ == nullptr) return;
    std::string& fields = connection_->work().fields;
    fields.append(name).append(": ").append(value).append("\r\n");
}

void Exchange::close_after() noexcept {
    if (connection_ != nullptr) connection_->unset(ServerConnection::keep_alive);
}

void Exchange::require_not_begun() const {
    if (connection_->is(ServerConnection::begun)) throw_begun();
}

/// Can an answer with these begin? False if the client is gone.
bool Exchange::may_begin(int status, std::string_view type) const {
    require_possible(status, type);
    if (connection_ == nullptr) return false;
    require_not_begun();
    return true;
}

void Exchange::answer(int status, std::string_view content, std::string_view type) {
    if (connection_ == nullptr) return require_possible(status, type);
    connection_->answer(status, content, type);
}

void Exchange::answer_with_file(int status, FileDescriptor file, std::string_view type, std::uint64_t offset,
                                std::uint64_t length) {
    if (may_begin(status, type)) connection_->answer_with_file(status, std::move(file), type, offset, length);
}

void Exchange::begin(int status, std::string_view type, std::optional<std::uint64_t> length) {
    if (!may_begin(status, type)) return;
    ServerConnection& connection = *connection_;
    ServerConnection::Work& work = connection.work();
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
    ServerConnection& connection = *connection_;
    auto gathering = std::make_unique<Gathering>(Gathering{std::move(*this), {}, std::move(callback)});
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
    require_not_begun();
    if (connection.content_to_come()) throw std::logic_error("http::Exchange: upgrade() before the content has come");
    if (!connection.hand_over_to(std::move(protocol))) return connection.transport().close();
    connection.set(ServerConnection::handed_over);
    connection.write_head(101, {}, std::nullopt, {});
    connection.let_go();
    connection.work_.reset();
}

}  // namespace reactor::http
