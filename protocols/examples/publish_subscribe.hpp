// Publish and subscribe: many connections that talk to each other through one broker, in lines that people
// can type. It is the example of protocols that share something, and of a slow reader among them that harms
// no other.
//
//     the client says                the broker answers
//     SUBSCRIBE topic                OK
//     UNSUBSCRIBE topic              OK
//     PUBLISH topic any text         OK n             n subscribers got it
//     PING                           PONG
//     QUIT                           BYE, and closes
//     anything else                  ERROR reason
//
// and at any time, to subscribers:
//
//     MESSAGE topic any text
//     DROPPED n                      n messages are missing here, because you did not read
//
// A topic is one word of at most 200 bytes. A line is at most 8192 bytes long; a longer one ends the
// connection.
#pragma once

#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

namespace reactor {

class Subscriber;

/// The subscriptions. One for all the connections of a loop, on that loop's thread; it must outlive
/// them, so it is declared before the reactor:
///
///     Broker broker;
///     Reactor reactor;
///     Acceptor acceptor{reactor, "localhost", 7000, [&broker] { return broker.subscriber(); }};
///     reactor.run();
class REACTOR_EXPORT Broker {
public:
    /// The fate of a message for a subscriber whose backlog is full. Either way neither the publisher nor the other
    /// subscribers wait, and the memory that a subscriber can cost is its backlog.
    enum class WhenSlow {
        drop,        ///< it does not get the message; when it reads again it gets the number of those it missed
        disconnect,  ///< its connection ends (Error::output_limit)
    };

    /// Bounds of one connection's share of the broker.
    struct Options {
        WhenSlow when_slow = WhenSlow::drop;
        /// Bytes that may wait for one subscriber. Below Limits::high_mark, so that a slow subscriber can
        /// still be heard, to unsubscribe for instance.
        /// An iteration's messages wait until its end, up to 16 KiB of them also for one that reads.
        std::size_t backlog = 64 * 1024;
        /// Topics that one connection may subscribe to.
        std::size_t most_topics = 100;
        /// After its lines have led to so many messages, a publisher waits until other connections had their turn.
        std::size_t messages_at_once = 16 * 1024;
    };

    Broker() = default;
    explicit Broker(const Options& options) : options_(options) {}
    Broker(const Broker&) = delete;
    Broker& operator=(const Broker&) = delete;

    /// A protocol for a new connection.
    std::unique_ptr<Protocol> subscriber();

    /// Gives the message to all subscribers of the topic. Returns how many they were.
    std::size_t publish(std::string_view topic, std::string_view text);

    const Options& options() const noexcept { return options_; }
    /// How many have subscribed to a topic.
    std::size_t subscribers(std::string_view topic) const noexcept {
        const auto found = topics_.find(topic);
        return found == topics_.end() ? 0 : found->second.size();
    }
    /// How many topics have subscribers.
    std::size_t topics() const noexcept { return topics_.size(); }

private:
    friend class Subscriber;
    void subscribe(std::string_view topic, Subscriber& subscriber);
    void unsubscribe(std::string_view topic, Subscriber& subscriber) noexcept;

    Options options_;
    std::map<std::string, std::set<Subscriber*>, std::less<>> topics_;
};

/// One connection to the broker.
class REACTOR_EXPORT Subscriber final : public Framed<Lines> {
public:
    static constexpr std::size_t longest_line = 8192;
    static constexpr std::size_t longest_topic = 200;

    explicit Subscriber(Broker& broker) : Framed(Lines(longest_line)), broker_(broker) {}
    ~Subscriber() override { leave(); }

private:
    friend class Broker;

    void message(Bytes line) override;
    void malformed(const FramingError& error) override;
    void disconnected(std::error_code reason) override;

    std::string answer(std::string_view line);
    bool deliver(std::string_view line);
    void tell_dropped();
    void leave() noexcept;

    Broker& broker_;
    std::set<std::string, std::less<>> topics_;
    std::uint64_t dropped_ = 0;
    std::size_t published_ = 0;  // messages since others had their turn
};

}  // namespace reactor
