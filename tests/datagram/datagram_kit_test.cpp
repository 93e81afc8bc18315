// The memory of a socket of datagrams keeps the promises that a real one does.
#include <protocols/echo.hpp>
#include <reactor/error.hpp>
#include <reactor/testing/memory_datagram_transport.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;
using testing::MemoryDatagramTransport;

namespace {

const Address somebody = *Address::ip("192.0.2.1", 7), somebody_else = *Address::ip("192.0.2.2", 8);

// Notes its calls, and acts as the test says.
struct DatagramRecorder final : DatagramProtocol {
    std::vector<std::string> log;
    std::function<void(const Datagram&)> on_received = [](const Datagram&) {};
    std::function<void()> on_opened = [] {}, on_resume = [] {};

    using DatagramProtocol::transport;
    void opened() override {
        log.push_back("opened");
        on_opened();
    }
    void received(const Datagram& datagram) override {
        log.push_back("received " + std::string(text_of(datagram.data)));
        on_received(datagram);
    }
    void refused(const Address& to, std::error_code error) override {
        log.push_back("refused " + to.to_string() + ", " + error.message());
    }
    void resume_sending() override {
        log.push_back("resume");
        on_resume();
    }
    void closed(std::error_code reason) override { log.push_back(reason ? "closed " + reason.message() : "closed"); }
};

using Log = std::vector<std::string>;

}  // namespace

TEST_CASE("An echo of datagrams is tested without a socket, and answers from where it was asked") {
    MemoryDatagramTransport socket(std::make_unique<DatagramEcho>());
    socket.feed("hello", somebody);
    Datagram asked;
    asked.sender = somebody_else;
    asked.destination = asked.local = *Address::ip("198.51.100.1", 53);
    socket.feed(asked);
    const auto sent = socket.take();
    REQUIRE(sent.size() == 2);
    CHECK(sent[0].data == "hello");
    CHECK(sent[0].route.to == somebody);
    CHECK(sent[0].route.from == Address());
    CHECK(sent[1].data == "");
    CHECK(sent[1].route.to == somebody_else);
    CHECK(sent[1].route.from == asked.local);
    CHECK(socket.sent().empty());
}

TEST_CASE("S7: calls come in order, none from inside another, and the end once, last") {
    DatagramRecorder recorder;
    recorder.on_opened = [&] {
        recorder.log.push_back("(");
        CHECK(recorder.transport().send(somebody, "hello"));
        recorder.log.push_back(")");
    };
    MemoryDatagramTransport socket(recorder);
    recorder.on_received = [&](const Datagram& datagram) {
        if (text_of(datagram.data) != "end") return;
        recorder.transport().close();
        CHECK_FALSE(recorder.transport().send(somebody, "too late"));
        recorder.log.push_back("still here");
    };
    socket.refuse(somebody);
    socket.feed("a", somebody);
    socket.feed("end", somebody);
    socket.feed("lost", somebody);
    CHECK(recorder.log == Log{"opened", "(", ")", "refused 192.0.2.1:7, Connection refused", "received a",
                              "received end", "still here", "closed"});
    CHECK(socket.closed() == std::error_code());
    CHECK(socket.take().size() == 1);
}

TEST_CASE("S10: a protocol that pauses receives nothing until it resumes") {
    DatagramRecorder recorder;
    MemoryDatagramTransport socket(recorder);
    recorder.on_received = [&](const Datagram&) { recorder.transport().pause_receiving(); };
    socket.feed("a");
    socket.feed("b");
    CHECK(socket.waiting() == 1);
    recorder.on_received = [](const Datagram&) {};
    recorder.transport().resume_receiving();
    socket.settle();
    CHECK(recorder.log == Log{"opened", "received a", "received b"});
}

TEST_CASE("Without room sends are queued, past the limit they are dropped, and then room is told of once") {
    DatagramRecorder recorder;
    MemoryDatagramTransport socket(recorder, 10);
    socket.fill();
    CHECK(recorder.transport().send(somebody, "12345"));
    CHECK(recorder.transport().send(somebody, "1234567"));
    CHECK_FALSE(recorder.transport().send(somebody, "x"));
    CHECK_FALSE(recorder.transport().send(somebody, "y"));
    CHECK(recorder.transport().queued() == 12);
    CHECK(recorder.transport().dropped() == 2);
    CHECK_FALSE(recorder.transport().send_descriptors({}, {}, {}));
    socket.drain(1);
    CHECK(socket.take().size() == 1);
    CHECK(recorder.log == Log{"opened"});
    socket.drain(1);
    CHECK(recorder.log == Log{"opened", "resume"});
    socket.drain();
    CHECK(recorder.transport().send(somebody, "z"));
    CHECK(socket.take().size() == 2);
    CHECK(recorder.log == Log{"opened", "resume"});
}

TEST_CASE("S69: what a protocol of datagrams throws closes it, and comes out of the call that led to it") {
    DatagramRecorder recorder;
    MemoryDatagramTransport socket(recorder);
    recorder.on_received = [](const Datagram&) { throw std::runtime_error("as planned"); };
    CHECK_THROWS_AS(socket.feed("x"), std::runtime_error);
    CHECK(socket.closed() == Error::exception);
    socket.fail(std::make_error_code(std::errc::network_down));
    CHECK(recorder.log.size() == 3);
}

TEST_CASE("S83: descriptors that a protocol is given and does not take do not outlive the call") {
    DatagramRecorder recorder;
    MemoryDatagramTransport socket(recorder);
    std::size_t came = 0;
    recorder.on_received = [&](const Datagram& datagram) { came = datagram.descriptors.size(); };
    std::vector<FileDescriptor> descriptors;
    descriptors.emplace_back();
    socket.feed(Datagram{}, std::move(descriptors));
    CHECK(came == 1);
    const int numbers[] = {1, 2};
    CHECK(recorder.transport().send_descriptors({}, bytes_of("two"), numbers));
    CHECK(socket.take().at(0).descriptors == std::vector<int>{1, 2});
}
