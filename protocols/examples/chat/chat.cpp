// chat: a room for people with a browser, and an example of one process that serves a page, WebSockets and streams:
//
//     chat 8080 protocols/examples/chat/page lines.txt
//     curl --no-buffer http://localhost:8080/lines                          listens
//     curl --data '{"name":"Ada","text":"hello"}' http://localhost:8080/lines    speaks
//
// SIGHUP restarts it. No line is lost and none comes twice: each has an id, which the pages know; a page says a line
// again if it did not come back, and a new connection first gets the last lines, which lie in a file. The server itself
// does not look into a line.
#include <protocols/http/server_connection.hpp>
#include <protocols/http/static_files.hpp>
#include <protocols/websocket/utf8.hpp>
#include <protocols/websocket/websocket.hpp>
#include <reactor/reactor.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/stream/inherited.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

using namespace reactor;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t longest_line = 4 * 1024;
constexpr std::size_t most_recent = 16 * 1024;    // bytes of old lines that a new connection gets
constexpr std::size_t most_waiting = 128 * 1024;  // bytes for a listener that does not read

/// The lines that were said, in a file, so that they outlive the process.
class History {
public:
    explicit History(std::string path) : path_(std::move(path)), file_(path_, std::ios::app) {
        if (!file_) throw std::runtime_error("cannot write to " + path_);
    }

    void add(std::string_view line) { file_ << line << '\n' << std::flush; }

    /// The last lines, each with its end.
    std::string recent() const {
        std::ifstream file(path_, std::ios::ate);
        const auto size = static_cast<std::size_t>(file.tellg());
        std::string text(std::min(size, most_recent), '\0');
        file.seekg(-static_cast<std::streamoff>(text.size()), std::ios::end);
        file.read(text.data(), static_cast<std::streamsize>(text.size()));
        return text.size() == size ? text : text.substr(text.find('\n') + 1);
    }

private:
    std::string path_;
    std::ofstream file_;
};

class Member;

/// The members, which are pages, and the listeners, which are streams. A slow one harms no other: it loses its
/// connection, comes again, and gets the last lines.
class Room {
public:
    explicit Room(std::string path) : history_(std::move(path)) {}

    /// Gives a line to all. False, and nothing is done, while the room is closed.
    bool say(std::string_view line);
    void enter(Member& member);
    void leave(Member& member) { members_.erase(&member); }

    void listen(http::Exchange stream) {
        stream.begin(200, "application/x-ndjson");
        stream.write(history_.recent());
        if (closed_) return stream.end();
        let_go_of_lost_listeners();
        listeners_.push_back(std::move(stream));
    }

    /// Takes no more lines: those that come now must be said to the next process.
    void close() {
        closed_ = true;
        for (http::Exchange& listener : listeners_) listener.end();
        listeners_.clear();
    }

    /// There is no next process. All members come again, and say what was not taken.
    void reopen();

private:
    void let_go_of_lost_listeners() {
        std::erase_if(listeners_, [](const auto& each) { return !each.open() || each.queued() > most_waiting; });
    }

    History history_;
    std::set<Member*> members_;
    std::vector<http::Exchange> listeners_;
    bool closed_ = false;
};

/// A line may hold anything but its end, in UTF-8: other bytes, also among the last lines, would end the WebSockets of
/// all pages.
bool is_line(Bytes content) {
    const std::string_view text = text_of(content);
    websocket::Utf8Check check;
    return !text.empty() && text.find_first_of("\r\n") == std::string_view::npos && check.accept(content) &&
           check.complete();
}

/// One page.
class Member final : public websocket::WebSocket {
public:
    explicit Member(Room& room)
        : WebSocket({.longest_message = longest_line, .ping_after = 30s, .slow = websocket::Slow::close}),
          room_(room) {}

private:
    void opened() override { room_.enter(*this); }
    void closing() override { room_.leave(*this); }
    void message(websocket::Kind kind, Bytes content) override {
        if (kind != websocket::Kind::text || !is_line(content)) return close(1008, "not a line");
        room_.say(text_of(content));
    }

    Room& room_;
};

bool Room::say(std::string_view line) {
    if (closed_) return false;
    history_.add(line);
    const auto message = websocket::Encoded::text(line);  // once for all
    for (Member* member : members_) member->send(message);
    const std::string with_end = std::string(line) + "\n";
    for (http::Exchange& listener : listeners_) listener.write(with_end);
    let_go_of_lost_listeners();
    return true;
}

void Room::enter(Member& member) {
    members_.insert(&member);
    member.send(history_.recent());
}

void Room::reopen() {
    closed_ = false;
    for (Member* member : members_) member->close(websocket::close_code::going_away);
}

/// A page of another site must not speak here in its visitors' names.
bool from_our_page(const http::Request& request) {
    const auto origin = request["Origin"];
    return !origin || *origin == "http://" + std::string(request.host());
}

std::shared_ptr<http::Service> service_of(Room& room, const std::string& pages) {
    auto service = std::make_shared<http::Service>();
    service->get("/{path...}", http::static_files(pages));
    service->get("/room", websocket::accept([&](const http::Request& request) {
                     return from_our_page(request) ? std::make_unique<Member>(room) : nullptr;
                 }));
    service->get("/lines", [&](const http::Request&, http::Exchange exchange) { room.listen(std::move(exchange)); });
    service->post("/lines", [&](const http::Request& request, http::Exchange exchange) {
        if (!from_our_page(request)) return exchange.answer(403);
        exchange.receive_all(longest_line, [&](http::Exchange all, Bytes line) {
            all.answer(!is_line(line) ? 400 : room.say(text_of(line)) ? 204 : 503);
        });
    });
    return service;
}

int serve(const std::vector<std::string>& words) {
    const std::string program = program_path(words[0]);
    std::vector<Socket> inherited = inherited_sockets();
    Predecessor predecessor;
    Room room(words[3]);
    const auto service = service_of(room, words[2]);

    Reactor reactor;
    std::optional<Acceptor> acceptor;
    if (inherited.empty()) {
        const auto port = static_cast<std::uint16_t>(std::stoul(words[1]));
        acceptor.emplace(reactor, "127.0.0.1", port, factory<http::ServerConnection>(service));
    } else {
        acceptor.emplace(reactor, std::move(inherited), factory<http::ServerConnection>(service));
    }

    std::optional<Successor> successor;
    const auto end = [&] {
        room.close();
        acceptor->drain(10s, [&](const Drained&) { reactor.stop(); });
    };
    const auto restart = [&] {
        if (successor) return;
        room.close();  // the successor's pages must find all lines in the file
        successor.emplace(reactor, acceptor->listening_sockets(), program, words, 10s, [&](std::error_code error) {
            if (!error) return end();
            std::fprintf(stderr, "cannot restart: %s\n", error.message().c_str());
            successor.reset();
            room.reopen();
        });
    };
    const Signals signals(reactor, {SIGHUP, SIGINT, SIGTERM},
                          [&](int signal) { signal == SIGHUP ? restart() : end(); });
    reactor.post([&] {
        std::printf("listening on %s (process %d)\n", acceptor->addresses().front().to_string().c_str(),
                    int(::getpid()));
        std::fflush(stdout);
        predecessor.ready();
    });
    reactor.run();
    return EXIT_SUCCESS;
}

}  // namespace

int main(int count, char** words) {
    if (count != 4) {
        std::fprintf(stderr, "usage: chat PORT FOLDER FILE   (the page's folder, the file of the lines)\n");
        return 2;
    }
    try {
        return serve({words, words + count});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "chat: %s\n", error.what());
        return EXIT_FAILURE;
    }
}
