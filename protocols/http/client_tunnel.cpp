// A tunnel through a proxy (RFC 9110, 9.3.6): CONNECT, and behind the answer another protocol speaks with a server that
// the proxy is connected to.
#include <protocols/http/client_impl.hpp>

#include <reactor/reactor.hpp>

#include <optional>
#include <utility>

namespace reactor::http {

namespace {

class Tunnel final : public Protocol {
public:
    Tunnel(std::string authority, Duration timeout, std::unique_ptr<Protocol> inside) noexcept
        : authority_(std::move(authority)), timeout_(timeout), inside_(std::move(inside)) {}

private:
    void connected() override {
        transport().write("CONNECT ", authority_, " HTTP/1.1\r\nHost: ", authority_, "\r\n\r\n");
        if (timeout_ <= Duration::zero()) return;
        deadline_.emplace(transport().reactor(),
                          [this] { transport().abort(std::make_error_code(std::errc::timed_out)); });
        deadline_->start(timeout_);
    }

    std::size_t received(Bytes input) override {
        std::size_t consumed = 0;
        for (;;) {
            ResponseHead head;
            const Parsed parsed = parser_.response(input.subspan(consumed), head);
            if (parsed.state == Parsed::State::need_more) return consumed;
            if (parsed.state == Parsed::State::refused) return give_up(input, parsed.problem);
            consumed += parsed.consumed;
            if (head.status >= 300 || head.status == 101) return give_up(input, Problem::refused_by_proxy);
            if (head.status >= 200) break;
            parser_ = HeadParser();
        }
        if (!hand_over_to(std::move(inside_)))
            return input.size();  // the end is on its way, and is this one's to report
        deadline_.reset();
        return consumed;
    }

    std::size_t give_up(Bytes input, Problem problem) {
        transport().abort(problem);
        return input.size();
    }

    void end_of_stream() override { transport().abort(Problem::refused_by_proxy); }
    void connect_failed(const std::vector<ConnectFailure>& failures) override { inside_->connect_failed(failures); }
    void disconnected(std::error_code reason) override {
        deadline_.reset();
        inside_->disconnected(reason);
    }

    const std::string authority_;
    const Duration timeout_;
    std::unique_ptr<Protocol> inside_;
    HeadParser parser_;
    std::optional<Timer> deadline_;
};

}  // namespace

std::unique_ptr<Protocol> through_tunnel(std::string authority, Duration timeout, std::unique_ptr<Protocol> inside) {
    return std::make_unique<Tunnel>(std::move(authority), timeout, std::move(inside));
}

}  // namespace reactor::http
