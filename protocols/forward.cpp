#include <protocols/forward.hpp>

#include <memory>
#include <utility>

namespace reactor {

ForwardEnd::~ForwardEnd() {
    if (other_ != nullptr) other_->other_ = nullptr;
}

void ForwardEnd::join(ForwardEnd& other) noexcept {
    other_ = &other;
    other.other_ = this;
}

std::size_t ForwardEnd::received(Bytes input) {
    if (other_ == nullptr) return input.size();
    other_->transport().write(input);
    transport().pass_on_to(other_->transport());
    return input.size();
}

void ForwardEnd::end_of_stream() {
    ended_ = true;
    if (other_ != nullptr) other_->transport().shutdown_write();
}

void ForwardEnd::pause_writing() {
    if (other_ != nullptr) other_->transport().pause_reading();
}

void ForwardEnd::resume_writing() {
    if (other_ != nullptr) other_->transport().resume_reading();
}

// Neither end can go on without the other.
void ForwardEnd::draining() {
    transport().close();
    if (other_ != nullptr) other_->transport().close();
}

// If both ends of stream were passed on, then the other end sends what it still has, and is over by itself. An end that
// is over before was closed from outside.
void ForwardEnd::disconnected(std::error_code reason) {
    if (other_ == nullptr) return;
    if (reason) return other_->transport().abort(reason);
    if (!ended_ || !other_->ended_) other_->transport().close();
}

// Joined from its beginning, so that either may go first, also while this one's `connected` is still to come.
class Forward::Far final : public ForwardEnd {
public:
    explicit Far(Forward& near) noexcept : near_(near) { join(near); }

private:
    void connected() override {
        if (!joined()) return transport().abort();
        near_.connector_.reset();
        near_.transport().resume_reading();
        if (near_.tried_) near_.tried_({});
    }
    void disconnected(std::error_code reason) override {
        const bool was_connecting = joined() && near_.connector_;
        ForwardEnd::disconnected(reason);
        if (was_connecting && near_.tried_) near_.tried_(reason);
    }

    Forward& near_;  // only while joined
};

Forward::Forward(Reactor& reactor, std::string host, std::uint16_t port, ConnectorOptions options,
                 std::function<void(std::error_code)> tried)
    : reactor_(reactor), host_(std::move(host)), port_(port), options_(std::move(options)), tried_(std::move(tried)) {}

Forward::~Forward() = default;

void Forward::connected() {
    transport().pause_reading();
    connector_.emplace(
        reactor_, host_, port_, [this] { return std::make_unique<Far>(*this); }, options_);
}

void Forward::disconnected(std::error_code reason) {
    connector_.reset();
    ForwardEnd::disconnected(reason);
}

}  // namespace reactor
