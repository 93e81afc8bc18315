// The load that the echo servers are measured under: one thread, one epoll loop, written by hand so that no server is
// driven by its own library. It checks every byte that comes back. Several servers are loaded in turn, in short slices
// with all connections open throughout: a machine drifts by tens of percent within seconds, and only what was measured
// side by side can be compared. Instead of an echo it can ask for one page of HTTP, or have messages of WebSocket sent
// back.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "histogram.hpp"
#include "median.hpp"
#include "talk.hpp"
#include "tls_client.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using bench::Histogram;
using bench::Median;
using bench::median_of;
using bench::Repeated;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 10000;
    std::vector<std::string> servers;
    std::size_t connections = 50;
    std::size_t idle = 0;
    std::size_t size = 64;
    std::size_t in_flight = 1;
    double seconds = 3;
    std::uint64_t messages = 0;  // instead of the seconds
    unsigned slice = 50;
    unsigned rounds = 0;
    unsigned timeout = 10;
    bool spin = false;
    std::string label;
    bool churn = false;
    bool tls = false;
    bool http = false;
    bool websocket = false;
    bool json = false;
};

// ── servers and their connections ──

struct Server;

struct Connection {
    Server* server = nullptr;
    int descriptor = -1;
    bool active = true;  // else it is opened and then stays idle
    bool connected = false;
    bool wants_room = false;
    std::string_view opening;  // what is still to be sent before the first message
    bool opened = false;       // the answer to that has come
    bench::TlsClient stream;
    std::uint64_t start = 0;    // in the pattern
    std::uint64_t allowed = 0;  // bytes that may have been sent by now
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t message_end = 0;         // of the answer that comes next
    std::size_t oldest = 0;                // its place in `begun`
    std::vector<Clock::time_point> begun;  // of each message in flight

    explicit operator bool() const noexcept { return descriptor >= 0; }
};

struct Server {
    std::string name, host;
    std::uint16_t port = 0;
    int process = 0;  // the process whose processor time is counted; 0: none
    sockaddr_storage address{};
    socklen_t address_length = 0;
    std::deque<Connection> connections;
    std::shared_ptr<const Repeated> answers;  // of HTTP once the first has come: each server has its own
    std::size_t answer_size = 0;              // 0: not yet known
    std::string first_answer;                 // what there is of it

    std::size_t open = 0;
    std::uint64_t outstanding = 0;  // messages whose answer has not come back whole
    std::uint64_t begun = 0;        // messages
    std::uint64_t completed = 0;
    std::uint64_t errors = 0;
    std::string first_error;

    Histogram latency;
    nanoseconds loaded{0};  // time, and the messages that fell into it
    std::uint64_t counted = 0;
    std::vector<double> rates;            // messages a second, by round
    std::vector<double> slowest;          // 99th percentile of latency in nanoseconds, by round
    std::vector<double> processor_times;  // nanoseconds a message, by round
};

std::system_error failure(const std::string& what, int error = errno) {
    return std::system_error(error, std::system_category(), what);
}

// Nanoseconds of all its threads, also of those that have ended.
std::uint64_t processor_time(int process) {
    clockid_t clock{};
    timespec time{};
    if (::clock_getcpuclockid(process, &clock) != 0 || ::clock_gettime(clock, &time) != 0) return 0;
    return std::uint64_t(time.tv_sec) * 1'000'000'000 + std::uint64_t(time.tv_nsec);
}

void resolve(Server& server) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* found = nullptr;
    const int result = ::getaddrinfo(server.host.c_str(), std::to_string(server.port).c_str(), &hints, &found);
    if (result != 0) throw std::runtime_error(fmt::format("{}: {}", server.host, ::gai_strerror(result)));
    const addrinfo* chosen = found;
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next)
        if (one->ai_family == AF_INET) {
            chosen = one;
            break;
        }
    std::memcpy(&server.address, chosen->ai_addr, chosen->ai_addrlen);
    server.address_length = chosen->ai_addrlen;
    ::freeaddrinfo(found);
}

// NAME=HOST:PORT or NAME=HOST:PORT@PROCESS
Server parse_server(const std::string& text) {
    Server server;
    const auto equals = text.find('=');
    const auto colon = text.rfind(':');
    const auto at = text.find('@', colon == std::string::npos ? 0 : colon);
    if (equals == std::string::npos || equals == 0 || colon == std::string::npos || colon < equals)
        throw std::runtime_error(fmt::format("--server {}: not NAME=HOST:PORT", text));
    server.name = text.substr(0, equals);
    if (server.name.find_first_of("\"\\") != std::string::npos)
        throw std::runtime_error(fmt::format("--server {}: a name without quotes and backslashes, please", text));
    server.host = text.substr(equals + 1, colon - equals - 1);
    try {
        server.port = std::uint16_t(std::stoul(text.substr(colon + 1)));
        if (at != std::string::npos) server.process = std::stoi(text.substr(at + 1));
    } catch (const std::logic_error&) {
        throw std::runtime_error(fmt::format("--server {}: port and process are numbers", text));
    }
    return server;
}

void allow_descriptors(std::size_t count) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw failure("getrlimit");
    const rlim_t hard = limit.rlim_max;
    limit.rlim_cur = limit.rlim_max = std::max<rlim_t>(hard, count);  // only root may pass the hard limit
    if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
    if (count > hard)
        throw std::runtime_error(fmt::format("needs {} descriptors and may have {}: raise ulimit -Hn", count, hard));
    limit.rlim_cur = limit.rlim_max = hard;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) throw failure("setrlimit");
}

// ── the loop ──

class Load {
public:
    explicit Load(const Options& options)
        : options_(options),
          question_size_(options.size),
          questions_(std::make_shared<Repeated>(bench::echo_pattern())),
          answers_(questions_),
          epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) throw failure("epoll_create1");
        if (!options.http && !options.websocket) return;
        std::string question(bench::http_request);
        answers_ = nullptr;
        if (options.websocket) {
            opening_ = bench::websocket_request;
            question = bench::websocket_frame(options.size, true);
            answers_ = std::make_shared<Repeated>(bench::websocket_frame(options.size, false));
        }
        question_size_ = question.size();
        questions_ = std::make_shared<Repeated>(std::move(question));
    }
    Load(const Load&) = delete;
    ~Load() {
        for (Server& server : servers_)
            for (Connection& connection : server.connections) close(connection);
        ::close(epoll_);
    }

    std::deque<Server>& servers() noexcept { return servers_; }

    void add(Server server) {
        server.answers = answers_;
        if (answers_ != nullptr) server.answer_size = answers_ == questions_ ? options_.size : answers_->period();
        servers_.push_back(std::move(server));
    }

    /// Opens every connection, and sends one message through each: then the server has accepted it, too.
    void open() {
        const std::size_t total = options_.connections + options_.idle;
        for (Server& server : servers_) {
            resolve(server);
            for (std::size_t i = 0; i < total; ++i) {
                Connection& connection = server.connections.emplace_back();
                connection.server = &server;
                if (answers_ == questions_) connection.start = std::uint64_t(i) * 40503;  // of an echo
                connection.begun.resize(options_.in_flight);
                // The active ones lie evenly among the idle ones.
                connection.active = (i + 1) * options_.connections / total > i * options_.connections / total;
            }
            again_ = false;
            if (options_.churn) continue;
            // A listening queue is 128 long with many servers; a connection that does not fit would wait a second.
            constexpr std::size_t at_once = 100;
            std::size_t next = 0;
            while (next < total || server.outstanding > 0) {
                while (next < total && server.outstanding < (server.answer_size > 0 ? at_once : 1))
                    connect(server.connections[next++]);
                turn(server);
                if (server.errors > 0) throw std::runtime_error(server.first_error);
            }
            server.begun = server.completed = 0;
            server.latency = Histogram{};
        }
    }

    /// Loads one server for that long, or with that many messages if this is not 0.
    void slice(Server& server, nanoseconds length, std::uint64_t messages, bool counts) {
        if (server.open == 0 && !options_.churn) throw std::runtime_error(server.first_error);
        const std::uint64_t processor_before = server.process ? processor_time(server.process) : 0;
        const std::uint64_t completed_before = server.completed;
        const Clock::time_point start = Clock::now();
        const Clock::time_point end = start + length;
        Histogram before = std::exchange(server.latency, {});
        again_ = true;
        last_message_ = messages == 0 ? UINT64_MAX : server.begun + messages;
        for (Connection& connection : server.connections) {
            if (options_.churn && connection.active) connect(connection);
            if (!options_.churn && connection.active && connection) {
                begin_messages(connection, Clock::now());
                send(connection);
            }
        }
        while (server.outstanding > 0 && again_) {
            turn(server);
            again_ = messages > 0 ? server.begun < last_message_ : Clock::now() < end;
        }
        // To the last echo: all the work that was begun is in the time, however many connections share the slice.
        again_ = false;
        while (server.outstanding > 0) turn(server);
        const nanoseconds taken = Clock::now() - start;
        const std::uint64_t all = server.completed - completed_before;
        const Histogram in_slice = std::exchange(server.latency, before);
        if (!counts) return;
        server.latency.add(in_slice);
        server.slowest.push_back(double(in_slice.percentile(0.99)));
        server.loaded += taken;
        server.counted += all;
        server.rates.push_back(double(all) * 1e9 / double(taken.count()));
        if (server.process && all > 0)
            server.processor_times.push_back(double(processor_time(server.process) - processor_before) / double(all));
    }

private:
    // Without sleeping, if it spins: then the time of waking up is not measured.
    int wait() {
        const auto limit = std::chrono::seconds(options_.timeout);
        const auto now = [&](std::chrono::milliseconds longest) {
            return ::epoll_wait(epoll_, events_.data(), int(events_.size()), int(longest.count()));
        };
        if (!options_.spin) return now(limit);
        const auto end = std::chrono::steady_clock::now() + limit;
        int count = 0;
        while (count == 0 && std::chrono::steady_clock::now() < end) count = now(std::chrono::milliseconds(0));
        return count;
    }

    void turn(Server& server) {
        const int count = wait();
        if (count < 0 && errno != EINTR) throw failure("epoll_wait");
        if (count == 0)
            throw std::runtime_error(fmt::format("{}: {} messages without an answer for {} s", server.name,
                                                 server.outstanding, options_.timeout));
        for (int i = 0; i < count; ++i) {
            auto& connection = *static_cast<Connection*>(events_[std::size_t(i)].data.ptr);
            const std::uint32_t ready = events_[std::size_t(i)].events;
            if (!connection) continue;
            if (!connection.connected) {
                connected(connection);
                continue;
            }
            if (ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(connection);
            if (connection && ready & EPOLLOUT) send(connection);
        }
    }

    void connect(Connection& connection) {
        Server& server = *connection.server;
        connection.descriptor =
            ::socket(server.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
        if (!connection) throw failure("socket");
        const int on = 1;
        ::setsockopt(connection.descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection.connected = connection.wants_room = false;
        connection.allowed = connection.sent = connection.received = 0;
        connection.message_end = server.answer_size;
        connection.opening = opening_;
        connection.opened = opening_.empty();
        connection.oldest = 0;
        connection.begun[0] = Clock::now();
        ++server.open;
        ++server.begun;
        ++server.outstanding;
        connection.allowed = question_size_;
        connection.stream.begin(connection.descriptor);
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT;
        event.data.ptr = &connection;
        if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.descriptor, &event) != 0) throw failure("epoll_ctl");
        if (::connect(connection.descriptor, reinterpret_cast<const sockaddr*>(&server.address),
                      server.address_length) != 0 &&
            errno != EINPROGRESS)
            fail(connection, fmt::format("cannot connect: {}", std::strerror(errno)));
    }

    void connected(Connection& connection) {
        int error = 0;
        socklen_t length = sizeof error;
        ::getsockopt(connection.descriptor, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) return fail(connection, fmt::format("cannot connect: {}", std::strerror(error)));
        connection.connected = true;
        connection.wants_room = true;  // send() takes that back
        send(connection);
    }

    // Fills the window: all messages begin now.
    void begin_messages(Connection& connection, Clock::time_point now) {
        Server& server = *connection.server;
        for (std::size_t i = 0; i < options_.in_flight && server.begun < last_message_; ++i) {
            connection.begun[(connection.oldest + i) % options_.in_flight] = now;
            connection.allowed += question_size_;
            ++server.begun;
            ++server.outstanding;
        }
    }

    void send(Connection& connection) {
        while (!connection.opening.empty() || (connection.opened && connection.sent < connection.allowed)) {
            const auto length = std::min<std::uint64_t>(connection.allowed - connection.sent, Repeated::longest_piece);
            const std::string_view piece =
                connection.opened ? std::string_view(questions_->at(connection.start + connection.sent), length)
                                  : connection.opening;
            const ssize_t count = connection.stream.send(piece.data(), piece.size());
            if (count < 0 && errno == EAGAIN) return want_room(connection, !connection.stream.waits_for_input());
            if (count < 0) return fail(connection, std::strerror(errno));
            if (connection.opened)
                connection.sent += std::uint64_t(count);
            else
                connection.opening.remove_prefix(std::size_t(count));
        }
        want_room(connection, false);
    }

    void want_room(Connection& connection, bool room) {
        if (connection.wants_room == room) return;
        connection.wants_room = room;
        epoll_event event{};
        event.events = EPOLLIN | (room ? std::uint32_t(EPOLLOUT) : 0U);
        event.data.ptr = &connection;
        ::epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.descriptor, &event);
    }

    void receive(Connection& connection) {
        do {
            receive_once(connection);
        } while (connection && connection.stream.pending());
        if (connection && connection.sent < connection.allowed && !connection.wants_room) send(connection);
    }

    void receive_once(Connection& connection) {
        const ssize_t count = connection.stream.receive(buffer_.data(), buffer_.size());
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count < 0) return fail(connection, std::strerror(errno));
        if (count == 0) return fail(connection, "closed by the server");
        std::string_view input(buffer_.data(), std::size_t(count));
        if (!connection.opened) return finish_opening(connection, input);
        if (connection.server->answer_size == 0 && !learn_answer(connection, input)) return;
        if (connection.received + input.size() > answers_to(connection))
            return fail(connection, "more came back than was asked for");
        const std::size_t same =
            connection.server->answers->same(connection.start + connection.received, input.data(), input.size());
        if (same < input.size())
            return fail(connection, fmt::format("byte {} came back different", connection.received + same));
        connection.received += input.size();
        if (connection.received < connection.message_end) return;
        complete(connection, Clock::now());
    }

    // Bytes that may have come for what was sent.
    std::uint64_t answers_to(const Connection& connection) const noexcept {
        const std::size_t size = connection.server->answer_size;
        return answers_ == questions_ ? connection.sent : connection.sent / question_size_ * size;
    }

    void finish_opening(Connection& connection, std::string_view answer) {
        if (!answer.starts_with("HTTP/1.1 101 ") || !answer.ends_with("\r\n\r\n"))
            return fail(connection, "no WebSocket: " + std::string(answer.substr(0, answer.find('\r'))));
        connection.opened = true;
        send(connection);
    }

    // False until the first answer is whole; then it counts as what all others are compared with.
    bool learn_answer(Connection& connection, std::string_view& input) {
        Server& server = *connection.server;
        server.first_answer += input;
        if (!server.first_answer.starts_with("HTTP/1.1 200 "))
            return fail(connection, "no 200: " + server.first_answer), false;
        if (!server.first_answer.ends_with(bench::http_content)) return false;
        connection.message_end = server.answer_size = server.first_answer.size();
        input = server.first_answer;
        server.answers = std::make_shared<Repeated>(bench::answer_like(server.first_answer));
        return true;
    }

    void complete(Connection& connection, Clock::time_point now) {
        Server& server = *connection.server;
        while (connection.received >= connection.message_end) {
            server.latency.add(std::uint64_t((now - connection.begun[connection.oldest]).count()));
            ++server.completed;
            --server.outstanding;
            if (again_ && !options_.churn && server.begun < last_message_) {
                connection.begun[connection.oldest] = now;
                connection.allowed += question_size_;
                ++server.begun;
                ++server.outstanding;
            }
            connection.message_end += server.answer_size;
            connection.oldest = connection.oldest + 1 == options_.in_flight ? 0 : connection.oldest + 1;
        }
        if (options_.churn) {
            close(connection);
            if (again_ && server.begun < last_message_) connect(connection);
            return;
        }
        if (connection.sent < connection.allowed) send(connection);
    }

    void fail(Connection& connection, const std::string& reason) {
        Server& server = *connection.server;
        ++server.errors;
        if (server.first_error.empty())
            server.first_error = fmt::format("{} at {}:{}: {}", server.name, server.host, server.port, reason);
        const std::uint64_t completed = server.answer_size > 0 ? connection.message_end / server.answer_size - 1 : 0;
        server.outstanding -= connection.allowed / question_size_ - completed;
        close(connection);
    }

    void close(Connection& connection) {
        if (!connection) return;
        connection.stream.end();
        ::close(std::exchange(connection.descriptor, -1));
        --connection.server->open;
    }

    const Options& options_;
    std::size_t question_size_;
    std::shared_ptr<const Repeated> questions_, answers_;  // the same of an echo; no answers of HTTP
    std::string_view opening_;                             // sent first on each connection
    int epoll_;
    std::deque<Server> servers_;
    std::vector<char> buffer_ = std::vector<char>(Repeated::longest_piece);
    std::array<epoll_event, 1024> events_{};
    bool again_ = false;  // is a completed message followed by another?
    std::uint64_t last_message_ = UINT64_MAX;
};

// ── the report ──

struct Result {
    double rate, megabytes, p50, p99, largest;
    Median ratio, processor_time, processor_ratio;
};

std::vector<double> quotients(const std::vector<double>& values, const std::vector<double>& reference) {
    std::vector<double> result;
    for (std::size_t i = 0; i < values.size() && i < reference.size(); ++i)
        if (reference[i] > 0) result.push_back(values[i] / reference[i]);
    return result;
}

Result result_of(const Server& server, const Server& first, const Options& options) {
    const double rate = server.loaded.count() > 0 ? double(server.counted) * 1e9 / double(server.loaded.count()) : 0;
    return {rate,
            rate * double(options.size) / 1e6,
            double(server.latency.percentile(0.5)) / 1e3,
            double(server.latency.percentile(0.99)) / 1e3,
            double(server.latency.largest()) / 1e3,
            median_of(quotients(server.rates, first.rates)),
            median_of(server.processor_times),
            median_of(quotients(server.processor_times, first.processor_times))};
}

void print_line(const Server& server, const Result& result, const Options& options) {
    fmt::print(
        "{}:{}: {} connections, {} bytes, {} in flight: {:.0f} messages/s, {:.1f} MB/s each way, "
        "p50 {:.1f} us, p99 {:.1f} us, longest {:.1f} us, {} errors\n",
        server.host, server.port, options.connections, options.size, options.in_flight, result.rate, result.megabytes,
        result.p50, result.p99, result.largest, server.errors);
}

void print_table(const std::deque<Server>& servers, const Options& options) {
    fmt::print(
        "{} connections, {} idle, {} bytes, {} in flight{}; {} rounds of {} ms; ratios to {} within each round, "
        "median and 95 % interval\n",
        options.connections, options.idle, options.size, options.in_flight, options.churn ? ", churn" : "",
        servers.front().rates.size(), options.slice, servers.front().name);
    fmt::print("{:<22} {:>11} {:>9} {:>9}   {:<19} {:>9}   {:<19}\n", "server", "messages/s", "p50 us", "p99 us",
               "ratio", "CPU ns", "CPU ratio");
    for (const Server& server : servers) {
        const Result result = result_of(server, servers.front(), options);
        const auto interval = [](const Median& median) {
            return fmt::format("{:.3f} ({:.3f}-{:.3f})", median.value, median.low, median.high);
        };
        fmt::print("{:<22} {:>11.0f} {:>9.1f} {:>9.1f}   {:<19} {:>9}   {:<19}\n", server.name, result.rate, result.p50,
                   result.p99, interval(result.ratio),
                   server.processor_times.empty() ? "" : fmt::format("{:.0f}", result.processor_time.value),
                   server.processor_times.empty() ? "" : interval(result.processor_ratio));
    }
}

void print_json(const std::deque<Server>& servers, const Options& options) {
    const auto interval = [](const Median& median) {
        return fmt::format("[{:.5g}, {:.5g}, {:.5g}]", median.value, median.low, median.high);
    };
    std::string lines;
    for (const Server& server : servers) {
        const Result result = result_of(server, servers.front(), options);
        lines += fmt::format(
            R"({}{{"name": "{}", "messages": {}, "messages_per_second": {:.1f}, "megabytes_per_second": {:.3f}, )"
            R"("p50_us": {:.2f}, "p99_us": {:.2f}, "max_us": {:.2f}, "errors": {}, "rate": {}, "p99_ns": {}, )"
            R"("ratio": {}, "cpu_ns": {}, "cpu_ratio": {}}})",
            lines.empty() ? "" : ", ", server.name, server.counted, result.rate, result.megabytes, result.p50,
            result.p99, result.largest, server.errors, interval(median_of(server.rates)),
            interval(median_of(server.slowest)), interval(result.ratio), interval(result.processor_time),
            interval(result.processor_ratio));
    }
    fmt::print(
        R"({{"label": "{}", "connections": {}, "idle": {}, "size": {}, "in_flight": {}, "churn": {}, "rounds": {}, )"
        R"("slice_ms": {}, "servers": [{}]}})"
        "\n",
        options.label, options.connections, options.idle, options.size, options.in_flight, options.churn,
        servers.front().rates.size(), options.slice, lines);
}

int run(const Options& options) {
    Load load(options);
    if (options.servers.empty()) {
        Server server;
        server.name = "echo";
        server.host = options.host;
        server.port = options.port;
        load.add(std::move(server));
    }
    for (const std::string& text : options.servers) load.add(parse_server(text));
    auto& servers = load.servers();
    allow_descriptors((options.connections + options.idle) * servers.size() + 32);
    load.open();

    const bool several = servers.size() > 1;
    const auto all = nanoseconds(std::int64_t(options.seconds * 1e9));
    if (!several && options.rounds == 0) {
        if (options.messages == 0)
            load.slice(servers.front(), std::min<nanoseconds>(all / 10, milliseconds(200)), 0, false);
        load.slice(servers.front(), all, options.messages, true);
    } else {
        const milliseconds slice(options.slice);
        const auto fitting = std::size_t(all / (slice * std::int64_t(servers.size())));
        const std::size_t rounds = options.rounds > 0 ? options.rounds : std::max<std::size_t>(fitting, 5);
        for (Server& server : servers) load.slice(server, slice, options.messages, false);
        for (std::size_t round = 0; round < rounds; ++round)
            for (std::size_t i = 0; i < servers.size(); ++i) {
                // Rotated, and every other round backwards: no server always follows the same one.
                const std::size_t place = round % 2 == 0 ? i : servers.size() - 1 - i;
                load.slice(servers[(place + round / 2) % servers.size()], slice, options.messages, true);
            }
    }

    std::uint64_t errors = 0;
    for (const Server& server : servers) errors += server.errors;
    if (options.json) print_json(servers, options);
    if (!options.json && several) print_table(servers, options);
    if (!options.json && !several)
        print_line(servers.front(), result_of(servers.front(), servers.front(), options), options);
    for (const Server& server : servers)
        if (server.errors > 0)
            fmt::print(stderr, "load: {} errors, the first: {}\n", server.errors, server.first_error);
    return errors == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
    Options options;
    CLI::App app{"Loads servers, checks every byte that comes back, and measures rate and latency."};
    app.option_defaults()->always_capture_default();
    app.add_option("--host", options.host, "The server's name or address");
    app.add_option("--port", options.port, "The server's port");
    app.add_option("--server", options.servers,
                   "NAME=HOST:PORT or NAME=HOST:PORT@PROCESS, instead of --host and --port; given several times, the "
                   "servers are loaded in turn and compared to the first. The process is whose CPU time is counted")
        ->take_all()
        ->allow_extra_args(false);
    app.add_option("--connections", options.connections, "Connections that send")->check(CLI::Range(1, 100000));
    app.add_option("--idle", options.idle, "Connections that are open besides and send nothing")
        ->check(CLI::Range(0, 100000));
    app.add_option("--size", options.size, "Bytes in a message")->check(CLI::Range(1, 1 << 24));
    app.add_option("--in-flight", options.in_flight, "Messages under way at a time on each connection")
        ->check(CLI::Range(1, 4096));
    app.add_option("--seconds", options.seconds, "How long, all in all")->check(CLI::Range(0.01, 3600.0));
    app.add_option("--messages", options.messages, "How many, instead of how long (of each server and slice)");
    app.add_option("--slice-ms", options.slice, "Several servers: how long each is loaded at a time")
        ->check(CLI::Range(1, 10000));
    app.add_option("--rounds", options.rounds, "Several servers: how often each has its turn; 0: as --seconds allows")
        ->check(CLI::Range(0, 100000));
    app.add_option("--timeout", options.timeout, "Seconds without any answer after which it gives up")
        ->check(CLI::Range(1, 600));
    app.add_flag("--spin", options.spin, "Never sleep: take a whole processor instead");
    CLI::Option* const churn =
        app.add_flag("--churn", options.churn, "Every message on a connection of its own: connect, echo, close");
    app.add_flag("--tls", options.tls, "Speak TLS; no certificate is verified");
    CLI::Option* const http =
        app.add_flag("--http", options.http, "Ask for a page that ends with \"Hello, World!\" by HTTP/1.1")
            ->excludes(churn);
    app.add_flag("--websocket", options.websocket, "Have messages of text sent back at /socket")->excludes(http);
    app.add_flag("--json", options.json, "Print one JSON object");
    app.add_option("--label", options.label, "A word for the JSON object, by which a report finds it");
    CLI11_PARSE(app, count, arguments);
    if (options.churn) options.in_flight = 1;
    if (options.http) options.size = bench::http_content.size();
    try {
        if (options.tls) bench::TlsClient::use();
        return run(options);
    } catch (const std::exception& error) {
        fmt::print(stderr, "load: {}\n", error.what());
        return 1;
    }
}
