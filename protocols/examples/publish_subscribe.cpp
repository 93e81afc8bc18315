// The broker and its subscribers. Writing to another connection's transport calls no protocol back, so the set of
// subscribers cannot change during a loop over it.
#include <protocols/examples/publish_subscribe.hpp>

#include <utility>

namespace reactor {

namespace {

/// The text up to the first space, and the rest behind it.
std::pair<std::string_view, std::string_view> split(std::string_view text) noexcept {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return {text, {}};
    return {text.substr(0, space), text.substr(space + 1)};
}

}  // namespace

std::unique_ptr<Protocol> Broker::subscriber() {
    return std::make_unique<Subscriber>(*this);
}

std::size_t Broker::publish(std::string_view topic, std::string_view text) {
    const auto found = topics_.find(topic);
    if (found == topics_.end()) return 0;
    const std::string line = "MESSAGE " + std::string(topic) + " " + std::string(text);
    std::size_t given = 0;
    for (Subscriber* subscriber : found->second) given += subscriber->deliver(line) ? 1 : 0;
    return given;
}

void Broker::subscribe(std::string_view topic, Subscriber& subscriber) {
    auto found = topics_.find(topic);
    if (found == topics_.end()) found = topics_.emplace(std::string(topic), std::set<Subscriber*>()).first;
    found->second.insert(&subscriber);
}

void Broker::unsubscribe(std::string_view topic, Subscriber& subscriber) noexcept {
    const auto found = topics_.find(topic);
    if (found == topics_.end()) return;
    found->second.erase(&subscriber);
    if (found->second.empty()) topics_.erase(found);
}

void Subscriber::message(Bytes line) {
    tell_dropped();
    send(answer(text_of(line)));
    if (text_of(line) == "QUIT") {
        leave();
        transport().close();
    }
}

std::string Subscriber::answer(std::string_view line) {
    const auto [command, rest] = split(line);
    if (line == "PING") return "PONG";
    if (line == "QUIT") return "BYE";
    const auto [topic, text] = split(rest);
    const bool publishes = command == "PUBLISH";
    if (!publishes && command != "SUBSCRIBE" && command != "UNSUBSCRIBE") return "ERROR unknown command";
    if (topic.empty() || topic.size() > longest_topic || (!publishes && topic.size() != rest.size())) {
        return "ERROR a topic is one word of at most " + std::to_string(longest_topic) + " bytes";
    }
    if (publishes) {
        // A line of a few bytes asks for as many messages as there are subscribers, and thousands of lines come at
        // once.
        const std::size_t given = broker_.publish(topic, text);
        published_ += broker_.subscribers(topic) + 1;  // also the subscribers that did not get it
        if (published_ >= broker_.options().messages_at_once) {
            published_ = 0;
            let_others_go_first();
        }
        return "OK " + std::to_string(given);
    }
    const auto found = topics_.find(topic);
    if (command == "UNSUBSCRIBE") {
        broker_.unsubscribe(topic, *this);
        if (found != topics_.end()) topics_.erase(found);
        return "OK";
    }
    if (found == topics_.end()) {
        if (topics_.size() == broker_.options().most_topics) return "ERROR too many topics";
        topics_.emplace(topic);
        broker_.subscribe(topic, *this);
    }
    return "OK";
}

bool Subscriber::deliver(std::string_view line) {
    if (transport().queued() + line.size() > broker_.options().backlog) {
        if (broker_.options().when_slow == Broker::WhenSlow::disconnect) {
            transport().abort(Error::output_limit);
        } else {
            ++dropped_;
        }
        return false;
    }
    tell_dropped();
    return send(line);
}

void Subscriber::tell_dropped() {
    if (dropped_ != 0) send("DROPPED " + std::to_string(std::exchange(dropped_, 0)));
}

void Subscriber::malformed(const FramingError& error) {
    if (error.code() == Error::message_too_long)
        send("ERROR a line has at most " + std::to_string(longest_line) + " bytes");
    leave();
}

void Subscriber::disconnected(std::error_code /*reason*/) {
    leave();
}

void Subscriber::leave() noexcept {
    for (const std::string& topic : topics_) broker_.unsubscribe(topic, *this);
    topics_.clear();
}

}  // namespace reactor
