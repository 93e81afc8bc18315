// One conversation of coroutines over each transport: a coroutine does not see what carries it.
#include "../support/loop.hpp"
#include "../support/unix_name.hpp"
#include "coroutine_kit.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>
#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/connect.hpp>
#include <reactor/coroutine/first_of.hpp>
#include <reactor/coroutine/open_stream.hpp>
#include <reactor/coroutine/scope.hpp>
#include <reactor/coroutine/stream.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/pipe.hpp>

#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

using Notes = std::vector<std::string>;

std::string text(const Result<Bytes>& bytes) {
    return bytes ? std::string(text_of(*bytes)) : "(" + bytes.error().message() + ")";
}

// A file of this text, which has no name any more.
FileDescriptor file_of(const std::string& content) {
    char path[] = "/tmp/reactor-coroutine-XXXXXX";
    FileDescriptor file(::mkstemp(path));
    REQUIRE(file.get() >= 0);
    ::unlink(path);
    REQUIRE(::write(file.get(), content.data(), content.size()) == ssize_t(content.size()));
    return file;
}

// Every kind of read and write, each side's end by itself, and limits.
Task<> answer(Stream stream, std::string content, Notes& notes) {
    notes.push_back(text(co_await stream.read<Lines>()));
    notes.push_back(text(co_await stream.read_exactly(3)));
    Limits limits = stream.limits();
    limits.high_mark = 1000;
    stream.set_limits(limits);
    CHECK(stream.limits().high_mark == 1000);
    FileDescriptor file = file_of(content);
    CHECK(co_await stream.write("the file", ": "));
    CHECK(co_await stream.write_file(std::move(file)));
    stream.shutdown_write();
    CHECK_FALSE(co_await stream.write("too late"));
    notes.push_back(text(co_await stream.read_some()));
    notes.push_back(text(co_await stream.read_some()));
}

Task<std::string> talk(Stream stream) {
    CHECK(co_await stream.write("li"));
    CHECK(co_await stream.write("ne\n", "ab"));
    CHECK(co_await stream.write("c"));
    std::string answer(text_of((co_await stream.read_until_end()).value()));
    CHECK(co_await stream.write("bye"));
    stream.shutdown_write();
    co_return answer;
}

// Makes the two ends: one serves the protocol, and the other is returned.
using Connect = std::function<Stream(Reactor&, std::unique_ptr<Protocol>)>;

Stream over_sockets(Reactor& reactor, std::pair<Socket, Socket> sockets, std::unique_ptr<Protocol> protocol) {
    Connection::open(reactor, std::move(sockets.first), std::move(protocol));
    return open_stream(reactor, std::move(sockets.second));
}

Stream over_pipes(Reactor& reactor, std::unique_ptr<Protocol> protocol) {
    int to[2], from[2];
    REQUIRE(::pipe2(to, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(from, O_CLOEXEC) == 0);
    PipeTransport::open(reactor, FileDescriptor(to[0]), FileDescriptor(from[1]), std::move(protocol));
    return open_stream(reactor, FileDescriptor(from[0]), FileDescriptor(to[1]));
}

const std::vector<std::pair<const char*, Connect>>& transports() {
    static const std::vector<std::pair<const char*, Connect>> all{
        {"TCP",
         [](Reactor& reactor, std::unique_ptr<Protocol> protocol) {
             return over_sockets(reactor, tcp_pair(), std::move(protocol));
         }},
        {"a Unix socket",
         [](Reactor& reactor, std::unique_ptr<Protocol> protocol) {
             return over_sockets(reactor, Socket::pair(), std::move(protocol));
         }},
        {"pipes", over_pipes},
    };
    return all;
}

Task<> fail(Stream stream) {
    (void)co_await stream.read<Lines>();
    throw std::runtime_error("broken");
}

Task<std::string> provoke(Stream stream) {
    co_await stream.write("go\n");
    const auto nothing = co_await stream.read_until_end();
    co_return text(nothing);
}

Task<Notes> ask_by_address(Reactor& reactor, Address address) {
    const std::vector<Address> addresses(1, address);
    Stream server = (co_await connect(reactor, addresses)).value();
    Notes notes(1, server.peer().to_string());
    co_await server.write("hello\n");
    notes.push_back(text(co_await server.read<Lines>()));
    co_return notes;
}

Task<> answer_lines(Stream stream) {
    while (auto line = co_await stream.read<Lines>()) co_await stream.write("answer to ", *line, "\n");
}

}  // namespace

TEST_CASE("coroutines talk over each transport in the same way") {
    for (const auto& transport : transports()) {
        const std::string name = transport.first;
        const Connect& connect_ends = transport.second;
        CAPTURE(name);
        Reactor reactor;
        const std::size_t descriptors = open_descriptors();
        const std::size_t frames = coroutine_frames().alive();
        const std::string content = random_bytes(300'000, 3);
        Notes notes;
        Stream stream = connect_ends(reactor, coroutine(answer, content, std::ref(notes))());
        CHECK(run(reactor, talk(std::move(stream))) == "the file: " + content);
        run_until(reactor, [&] { return coroutine_frames().alive() == frames; });
        CHECK(notes == Notes{"line", "abc", "bye", "(the peer has ended its stream)"});
        settle(reactor);
        CHECK(open_descriptors() == descriptors);
    }
}

TEST_CASE("an exception out of a coroutine ends its connection, whatever the transport, and goes to the hook") {
    for (const auto& transport : transports()) {
        const std::string name = transport.first;
        const Connect& connect_ends = transport.second;
        CAPTURE(name);
        Reactor reactor;
        int exceptions = 0;
        reactor.on_exception([&](std::exception_ptr) { ++exceptions; });
        Stream stream = connect_ends(reactor, coroutine(fail)());
        const std::string end = run(reactor, provoke(std::move(stream)));
        // The end of a pipe looks like a reset.
        CHECK(end == (name == "TCP" ? "(" + std::make_error_code(std::errc::connection_reset).message() + ")" : ""));
        CHECK(exceptions == 1);
    }
}

TEST_CASE("a coroutine connects to a Unix socket, which an acceptor serves by a coroutine") {
    Reactor reactor;
    const Address address = new_unix_name();
    const Acceptor acceptor(reactor, {address}, coroutine(answer_lines));
    CHECK(run(reactor, ask_by_address(reactor, address)) == Notes{address.to_string(), "answer to hello"});
}
