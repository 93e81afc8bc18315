// A kernel in memory, behind the C library's calls that the library makes: kernel.cpp defines them for this program
// and passes calls on real descriptors on. The simulated library is therefore the installed one, backends
// included. One thread, one seed: sockets deliver in pieces, late, or not at all; calls are
// interrupted; numbers of descriptors are reused at once; time passes only during waits and calls.
//
// It models what tcp(7), udp(7), ip(7), socket(7) and epoll(7) promise and nothing that only one version of Linux does.
// Datagrams get lost, overtake each other and come back as refused. It has no urgent data and no Unix sockets, puts no
// datagrams together (UDP_GRO), and duplicates none. It has no ring: on io_uring the testing kit's script of
// completions makes its calls.
#pragma once

#include "../support/dice.hpp"

#include <reactor/clock.hpp>
#include <reactor/net/address.hpp>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace simulation {

using ::Dice;
using reactor::Address;
using reactor::Duration;
using reactor::TimePoint;

/// How rough it gets. Chances in a thousand, each time the fault could happen.
struct Weather {
    unsigned partial = 300;     ///< a read or a write moves less than it could
    unsigned spurious = 20;     ///< readiness is reported where there is none, or EAGAIN where there is some
    unsigned interrupted = 20;  ///< EINTR
    unsigned reset = 0;         ///< the network cuts a connection when a segment arrives
    unsigned unreachable = 0;   ///< connect fails at once
    unsigned silent = 0;        ///< connects are never answered
    unsigned accept_fails = 0;  ///< accept reports a connection that failed before it was accepted
    unsigned starved = 0;       ///< the kernel has no memory for a socket, for watching one, or for a datagram
    unsigned lost = 0;          ///< the network loses a datagram
    unsigned jump = 0;          ///< waiting takes up to an hour longer than it should
    std::size_t smallest_buffer = 1, largest_buffer = 64 * 1024;
    Duration longest_delay = std::chrono::milliseconds(50);
    std::size_t most_descriptors = 1000;  ///< EMFILE from here
};

class Kernel final : public reactor::Clock {
public:
    /// From now until it is destroyed this is the kernel of the process, for new sockets and for those it made.
    Kernel(Dice& dice, const Weather& weather);
    ~Kernel();
    Kernel(const Kernel&) = delete;

    static Kernel* current() noexcept { return current_; }
    /// Is this number, open or not, one of the simulated kernel's?
    static bool simulates(int descriptor) noexcept {
        return current_ != nullptr && descriptor >= first_descriptor && descriptor < first_descriptor + 100'000;
    }

    TimePoint now() const noexcept override { return now_; }
    /// Calls `event` when that much time has passed, while the loop waits or makes a call that waits for nothing:
    /// this is also how other threads act.
    void at(Duration from_now, std::function<void()> event);
    /// Called at every call that the program makes, but not from inside itself.
    std::function<void()> on_call;
    /// Called once, at the first failure.
    std::function<void()> on_failure;

    void fail(std::string what);
    const std::string& failure() const noexcept { return failure_; }
    void trace(const char* what, long long a = 0, long long b = 0);
    bool traced = false;

    /// Something happened: the loop does not spin.
    void note_progress() noexcept { ++progress_; }
    /// An iteration of the loop. Many in a row without progress are a spin.
    void note_turn();
    Weather& weather() noexcept { return weather_; }
    std::size_t open_descriptors() const noexcept { return table_.size(); }
    /// How long the loop has slept, in all.
    Duration slept() const noexcept { return slept_; }
    /// The datagrams that were sent, by outcome. Those without an outcome are on their way, or wait.
    struct Post {
        std::uint64_t sent = 0, lost = 0, refused = 0, read = 0;
        bool delivered() const noexcept { return sent == lost + refused + read; }
    };
    const Post& post() const noexcept { return post_; }
    /// Nothing ever listens on this port, and no network leads to this host.
    static constexpr std::uint16_t dead_port = 9;
    static constexpr const char* no_host = "192.0.2.1";

    /// Of everything that was called and answered: equal if and only if two runs were.
    std::uint64_t digest() const noexcept { return digest_; }

    // The calls. As in the manual, errno included.
    int make_socket(bool for_datagrams);
    int make_event();
    int make_null();
    int make_epoll();
    int close(int descriptor);
    int bind(int descriptor, const Address& address);
    int listen(int descriptor, int backlog);
    int accept(int descriptor, Address& peer);
    int connect(int descriptor, const Address& address);
    int disconnect(int descriptor);
    ssize_t receive(int descriptor, void* into, std::size_t size);
    ssize_t send(int descriptor, std::string_view data);
    int shut_down(int descriptor);
    int pending_error(int descriptor, int& error);
    int set_linger(int descriptor, bool resets);
    int set_option(int descriptor, int level, int option);
    int check_socket(int descriptor);
    int kind_of(int descriptor, int& kind);
    int cuts_up(int descriptor);
    bool is_mailbox(int descriptor) const;
    ssize_t send(int descriptor, const msghdr& message);
    int send(int descriptor, mmsghdr* messages, unsigned count);
    ssize_t receive(int descriptor, msghdr& message, int flags);
    int receive(int descriptor, mmsghdr* messages, unsigned count);
    int name(int descriptor, bool of_peer, Address& address);
    ssize_t read_event(int descriptor, void* into, std::size_t size);
    ssize_t write(int descriptor, const void* from, std::size_t size);
    bool cannot_send_files();
    /// From the seed, so that it replays: connectors ask for it.
    int give_entropy(void* buffer, std::size_t size);
    ssize_t write_event(int descriptor, const void* from, std::size_t size);
    int control(int epoll, int operation, int descriptor, const epoll_event* event);
    int wait(int epoll, epoll_event* events, int room, std::optional<Duration> limit);
    int poll(pollfd* watched, nfds_t count, std::optional<Duration> limit);
    int select(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, std::optional<Duration> limit);

private:
    static constexpr int first_descriptor = 1000;  // no real one comes near

    struct File;
    struct Event;
    struct Null;
    struct Listener;
    struct Stream;
    struct Mailbox;
    struct Epoll;
    using StreamPointer = std::shared_ptr<Stream>;
    using MailboxPointer = std::shared_ptr<Mailbox>;

    void called(const char* call, long long a = 0);
    long long answered(long long result);
    int refused(int error);
    std::shared_ptr<File> find(int descriptor, const char* call);
    template <class Kind>
    std::shared_ptr<Kind> find_as(int descriptor, const char* call);
    int open(std::shared_ptr<File> file, std::size_t most);
    StreamPointer make_stream();
    void let_connect(const StreamPointer& client, const Address& address);
    void arrive(const StreamPointer& from, Duration delay, std::function<void()> what);
    void send_end(const StreamPointer& stream);
    void send_reset(const StreamPointer& stream);
    void reset(Stream& stream, int error);
    void close_stream(const StreamPointer& stream);
    ssize_t send_datagram(const MailboxPointer& box, const msghdr& message);
    void carry(const MailboxPointer& box, const Address& to, std::string text);
    void deliver(const MailboxPointer& sender, const Address& to, std::string text);
    ssize_t receive_datagram(Mailbox& box, msghdr& message);
    ssize_t receive_refusal(Mailbox& box, msghdr& message);
    static bool is_socket(const File& file);
    short condition(const std::shared_ptr<File>& file, short wanted);
    void run_due();
    template <class Collect>
    int wait_for(std::optional<Duration> limit, Collect collect);

    static Kernel* current_;
    Dice& dice_;
    Weather weather_;
    TimePoint now_{std::chrono::hours(1)};
    Duration slept_{};
    std::map<std::pair<TimePoint, std::uint64_t>, std::function<void()>> events_;
    std::uint64_t event_count_ = 0;
    std::map<int, std::shared_ptr<File>> table_;
    std::vector<std::weak_ptr<Stream>> streams_;  // all that were ever made
    std::map<Address, std::weak_ptr<Listener>> listeners_;
    std::map<Address, std::weak_ptr<Mailbox>> mailboxes_;
    Post post_;
    std::uint16_t next_port_ = 20000;
    std::string failure_;
    bool in_hook_ = false;
    std::uint64_t progress_ = 0, progress_seen_ = 0;
    int idle_turns_ = 0;
    std::uint64_t digest_ = 14695981039346656037u;
};

}  // namespace simulation
