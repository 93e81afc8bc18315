// The coroutine form of a client: a whole response, or one that is read in parts.
//
//     Task<> show(http::Client& client) {
//         Result<http::Response> page = co_await client.get("http://localhost:8080/");
//         if (page) use(page->content());
//     }
#pragma once

#include <protocols/http/client.hpp>
#include <reactor/bytes.hpp>
#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/coroutine/result.hpp>
#include <reactor/error.hpp>

#include <memory>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace reactor::http {

namespace client_detail {

/// A request, its call, and the coroutine that waits for it.
struct Asked {
    Asked(Client& its_client, ClientRequest its_request) : client(its_client), request(std::move(its_request)) {}

    void resume_waiting() {
        if (const auto next = std::exchange(waiting, {})) coroutine_detail::resume(next);
    }

    Client& client;
    ClientRequest request;
    coroutine_detail::Continuation waiting;
    Response response;
    Bytes part{};
    bool ended = false;
    std::error_code error;
    Call call;
};

}  // namespace client_detail

/// Waits for a whole response. Destroying it cancels the request.
class ResponseOperation final : public coroutine_detail::Operation<ResponseOperation> {
public:
    ResponseOperation(Client& client, ClientRequest request)
        : asked_(std::make_shared<client_detail::Asked>(client, std::move(request))) {}

    bool ready() const noexcept { return false; }
    void start(coroutine_detail::Root&, coroutine_detail::Continuation continuation) {
        asked_->waiting = continuation;
        asked_->call = asked_->client.send(std::move(asked_->request),
                                           [asked = asked_.get()](std::error_code error, Response response) {
                                               asked->error = error;
                                               asked->response = std::move(response);
                                               asked->resume_waiting();
                                           });
    }
    Result<Response> result() {
        if (asked_->error) return asked_->error;
        return std::move(asked_->response);
    }

private:
    std::shared_ptr<client_detail::Asked> asked_;
};

/// A response whose content is read in parts, at the pace of its reader: the rest stays with the server.
/// Destroying it cancels what is left. Thread: the loop's. Lifetime: may outlive its client.
class [[nodiscard]] ResponseParts {
public:
    /// Waits for a part: a view that is valid until the next await. Errors: Error::end_of_stream behind the last part,
    /// otherwise the reason why the content ended early. Cancelling it loses nothing.
    class Read final : public coroutine_detail::Operation<Read> {
    public:
        explicit Read(std::shared_ptr<client_detail::Asked> asked) noexcept : asked_(std::move(asked)) {}
        Read(Read&&) noexcept = default;
        ~Read() {
            if (asked_ == nullptr || !asked_->waiting) return;
            asked_->waiting = {};
            asked_->call.pause();
        }

        bool ready() const noexcept { return asked_->ended; }
        void start(coroutine_detail::Root&, coroutine_detail::Continuation continuation) {
            asked_->waiting = continuation;
            asked_->call.resume();
        }
        Result<Bytes> result() {
            const Bytes part = std::exchange(asked_->part, {});
            if (!part.empty()) return part;
            return asked_->error ? asked_->error : make_error_code(Error::end_of_stream);
        }

    private:
        std::shared_ptr<client_detail::Asked> asked_;
    };

    /// The head.
    const Response& response() const noexcept { return asked_->response; }
    /// One at a time.
    Read read() noexcept { return Read(asked_); }

    ResponseParts(ResponseParts&&) noexcept = default;
    ResponseParts& operator=(ResponseParts&& other) noexcept {
        if (this != &other) cancel();
        asked_ = std::move(other.asked_);
        return *this;
    }
    ~ResponseParts() { cancel(); }

private:
    friend class PartsOperation;
    explicit ResponseParts(std::shared_ptr<client_detail::Asked> asked) noexcept : asked_(std::move(asked)) {}
    void cancel() noexcept {
        if (asked_ != nullptr) asked_->call.cancel();
    }

    std::shared_ptr<client_detail::Asked> asked_;
};

/// Waits for the head of a response. Destroying it cancels the request.
class PartsOperation final : public coroutine_detail::Operation<PartsOperation> {
public:
    PartsOperation(Client& client, ClientRequest request)
        : asked_(std::make_shared<client_detail::Asked>(client, std::move(request))) {}
    PartsOperation(PartsOperation&&) noexcept = default;
    ~PartsOperation() {
        if (asked_ != nullptr) asked_->call.cancel();
    }

    bool ready() const noexcept { return false; }
    void start(coroutine_detail::Root&, coroutine_detail::Continuation continuation) {
        asked_->waiting = continuation;
        const std::weak_ptr<client_detail::Asked> weak = asked_;
        Client::Parts parts;
        parts.head = [weak](Response response) {
            const auto asked = weak.lock();
            asked->response = std::move(response);
            asked->call.pause();
            asked->resume_waiting();
        };
        parts.part = [weak](std::error_code error, Bytes part, bool last) {
            const auto asked = weak.lock();
            asked->error = error;
            asked->part = part;
            asked->ended = last;
            asked->resume_waiting();
            asked->part = {};
            if (!asked->waiting) asked->call.pause();
        };
        asked_->call = asked_->client.send(std::move(asked_->request), std::move(parts));
    }
    Result<ResponseParts> result() {
        if (asked_->response.status() == 0) return asked_->error;
        return ResponseParts(std::move(asked_));
    }

private:
    std::shared_ptr<client_detail::Asked> asked_;
};

inline ResponseOperation Client::send(ClientRequest request) {
    return {*this, std::move(request)};
}

inline ResponseOperation Client::get(std::string_view url) {
    ClientRequest request;
    request.url = url;
    return send(std::move(request));
}

inline PartsOperation Client::open(ClientRequest request) {
    return {*this, std::move(request)};
}

}  // namespace reactor::http
