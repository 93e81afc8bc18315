// ServerConnection: the protocol that is a server of HTTP/1.1 (RFC 9110, 9112) on one connection. It parses requests,
// has them answered by a Service, and does all that keeps a connection in order: persistence, pipelining, content that
// nothing reads, 100 (Continue), refusals. It runs over every transport.
#pragma once

#include <protocols/http/exchange.hpp>
#include <protocols/http/head.hpp>
#include <protocols/http/service.hpp>
#include <reactor/export.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string_view>
#include <system_error>

namespace reactor::http {

/// One connection of a server: `factory<http::ServerConnection>(service)`, with a std::shared_ptr<Service>. A request
/// that cannot be understood is answered with its status, and the connection then closes in good order, so that the
/// answer arrives. While a request is being answered the next one stays in the transport: a client that sends many is
/// not read from. When it is drained, it answers what it has begun and closes; a connection without a request yet has a
/// second for its first.
class REACTOR_EXPORT ServerConnection final : public Protocol {
public:
    explicit ServerConnection(std::shared_ptr<Service> service) noexcept;
    ~ServerConnection() override;

private:
    friend class Exchange;
    friend class Service;
    struct Work;
    enum Flag : std::uint16_t {
        keep_alive = 1,        // the connection persists after this answer
        old = 2,               // the client speaks HTTP/1.0
        without_content = 4,   // the answer to HEAD
        expects_continue = 8,  // the client waits for 100 before it sends the content
        begun = 16,            // the head of the answer has been written
        in_chunks = 32,        // its content goes in chunks
        held = 64,             // reading is paused until the answer is complete
        ending = 128,          // nothing more is understood
        answering = 256,       // a request is not completely answered
        drained = 512,         // the request under way is the last
        asked = 1024,          // a request has come on this connection
        handed_over = 2048,    // another protocol speaks, after an upgrade
        last_input = 4096,     // the client said that this request is its last, and nothing came behind it
    };
    bool is(std::uint16_t flags) const noexcept { return (flags_ & flags) != 0; }
    void set(std::uint16_t flags) noexcept { flags_ = static_cast<std::uint16_t>(flags_ | flags); }
    void unset(std::uint16_t flags) noexcept { flags_ = static_cast<std::uint16_t>(flags_ & ~flags); }

    std::size_t received(Bytes input) override;
    void end_of_stream() override;
    void draining() override;
    void disconnected(std::error_code reason) override;
    void resume_writing() override;

    Work& work();
    bool content_to_come() const noexcept;
    void hold();
    void release();
    std::size_t take_request(Bytes input);
    std::size_t take_content(Bytes input);
    void begin_request(const RequestHead& head, bool whole_input);
    void begin_log(const RequestHead& head);
    void handler_failed(std::exception_ptr thrown);
    void wait_for_head();
    void refuse(Problem problem);
    void let_go() noexcept;

    // For Service: the exchange of the request that has just come.
    Exchange exchange() noexcept { return Exchange(*this); }
    // For Exchange.
    void answer(int status, std::string_view content, std::string_view type);
    void answer_with_file(int status, FileDescriptor file, std::string_view type, std::uint64_t offset,
                          std::uint64_t length);
    void compose(int status, std::string_view type, std::optional<std::uint64_t> length, std::string_view content);
    void write_head(int status, std::string_view type, std::optional<std::uint64_t> length, std::string_view content);
    bool write_part(Bytes part);
    void finish();
    void finish_work();
    void ask_for_content();

    std::shared_ptr<Service> service_;
    Exchange* exchange_ = nullptr;  // the handle of the request that is being answered
    std::unique_ptr<Work> work_;    // for requests that take more than one head and one answer
    HeadParser parser_;
    std::uint16_t flags_ = 0;
};

}  // namespace reactor::http
