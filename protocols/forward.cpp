#include <protocols/forward.hpp>

#include <stdexcept>
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
    if (observer_ && other_ != nullptr) {
        observer_(input);
        if (other_ != nullptr) other_->transport().write(input);
        return input.size();
    }
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
    explicit Far(Forward& near) : near_(near) {
        join(near);
        if (near.observed_by_ == nullptr) return;
        set_observer([by = near.observed_by_](Bytes bytes) { (*by)(Way::to_client, bytes); });
    }

private:
    void connected() override {
        if (!joined()) return transport().abort();
        near_.connector_.reset();
        near_.target_answered({});
        if (!joined()) return;
        near_.transport().resume_reading();
        if (near_.tried_) near_.tried_({});
    }
    void disconnected(std::error_code reason) override {
        if (!joined() || !near_.connector_) return ForwardEnd::disconnected(reason);
        near_.chosen_ = false;  // there never was a connection: another target may be chosen
        const auto tried = near_.tried_;
        near_.target_answered(reason);
        if (tried) tried(reason);
    }

    Forward& near_;  // only while joined
};

Forward::Forward(std::string host, std::uint16_t port, ConnectorOptions options,
                 std::function<void(std::error_code)> tried,
                 std::function<std::unique_ptr<Protocol>(std::unique_ptr<Protocol>)> dress)
    : host_(std::move(host)),
      port_(port),
      options_(std::move(options)),
      tried_(std::move(tried)),
      dress_(std::move(dress)) {}

Forward::Forward(ConnectorOptions options) : chosen_later_(true), options_(std::move(options)) {}

Forward::~Forward() = default;

void Forward::observe(std::function<void(Way, Bytes)> observer) {
    if (!observer) throw std::invalid_argument("Forward::observe: an empty observer");
    if (joined()) throw std::logic_error("Forward::observe: the target is connected already");
    observed_by_ = std::make_shared<const std::function<void(Way, Bytes)>>(std::move(observer));
    set_observer([by = observed_by_](Bytes bytes) { (*by)(Way::to_target, bytes); });
}

void Forward::connected() {
    if (!chosen_later_) connect_to(host_, port_);
}

void Forward::connect_to(std::string host, std::uint16_t port) {
    if (chosen_) throw std::logic_error("Forward::connect_to: a target is chosen already");
    if (!transport().open()) return;
    const auto make = [this]() -> std::unique_ptr<Protocol> {
        std::unique_ptr<Protocol> far = std::make_unique<Far>(*this);
        return dress_ ? dress_(std::move(far)) : std::move(far);
    };
    connector_.emplace(transport().reactor(), host, port, make, options_);
    chosen_ = true;
    transport().pause_reading();
}

void Forward::target_answered(std::error_code error) {
    if (error) transport().abort(error);
}

std::size_t Forward::received(Bytes input) {
    return chosen_ ? ForwardEnd::received(input) : asked(input);
}

void Forward::end_of_stream() {
    if (!chosen_) return transport().close();
    ForwardEnd::end_of_stream();
}

void Forward::disconnected(std::error_code reason) {
    connector_.reset();
    ForwardEnd::disconnected(reason);
}

}  // namespace reactor
