// A small program in one object: an echo over TCP, a file that is sent and passed on, datagrams, a child, a timer and a
// post. To do that the library makes every system call that it knows and that POSIX does not. A test runs it on kernels
// that lack some of them.
#pragma once

#include "loop.hpp"

#include <protocols/echo.hpp>
#include <reactor/datagram/datagram.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/process.hpp>
#include <reactor/timer.hpp>

#include <fcntl.h>

#include <csignal>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

class Session {
public:
    /// `path` is a file with this content, of some 100,000 bytes. Throws what the library throws while it is set up.
    Session(const std::string& path, std::string_view content)
        : content_(content),
          acceptor_(reactor_, {*reactor::Address::ip("127.0.0.1", 0)}, reactor::factory<reactor::Echo>()),
          connector_(reactor_, {acceptor_.addresses().at(0)}, [this] { return std::make_unique<Recorder>(client_); }),
          child_(reactor_, {"sleep", "1000"}, without_streams(),
                 [this](reactor::ExitStatus status) { exit_ = status; }) {
        client_.on_connected = [this] { client_.transport->write("hello"); };
        client_.on_received = [this](reactor::Bytes input) {
            client_.input += reactor::text_of(input);
            if (client_.input == "hello") client_.transport->close();
            return input.size();
        };
        pass_a_file_on(path);
        exchange_datagrams();
        reactor_.post([this] { posted_ = true; });
        bell_.start(std::chrono::microseconds(1'500));
        signalled_ = child_.kill(SIGTERM);
    }
    /// A child that the library cannot signal would be waited for until it ends by itself.
    ~Session() {
        if (child_.running()) ::kill(child_.id(), SIGKILL);
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Runs until everything has come to its end, 20 seconds at most, and returns the names of the parts that have not.
    /// Throws what the library throws.
    std::string run() {
        if (!signalled_) return " signal";
        const auto give_up = reactor_.now() + std::chrono::seconds(20);
        while (!left().empty() && reactor_.now() < give_up) reactor_.run_once(std::chrono::milliseconds(10));
        return left();
    }

private:
    // Takes questions of one, two and three bytes, which fit no bundle of one size, and answers them.
    struct Answerer final : reactor::DatagramProtocol {
        void received(const reactor::Datagram& datagram) override { transport().answer(datagram, datagram.data); }
    };
    struct Asker final : reactor::DatagramProtocol {
        explicit Asker(Session& session) : session_(session) {}
        void opened() override {
            for (const std::string_view question : {"1", "22", "333"}) transport().send(question);
        }
        void received(const reactor::Datagram& datagram) override { session_.answered_ += datagram.data.size(); }
        Session& session_;
    };

    static reactor::ProcessOptions without_streams() {
        reactor::ProcessOptions options;
        options.input = options.output = options.error = reactor::ProcessOptions::Stream::null;
        return options;
    }

    reactor::Connection& open(reactor::Socket&& socket, Journal& journal) {
        return reactor::Connection::open(reactor_, std::move(socket), std::make_unique<Recorder>(journal));
    }

    void pass_a_file_on(const std::string& path) {
        auto [feeding, source] = reactor::Socket::pair();
        auto [target, sinking] = reactor::Socket::pair();
        reactor::Connection& to = open(std::move(target), target_);
        open(std::move(sinking), sink_);
        reactor::Connection& from = open(std::move(source), source_);
        source_.on_received = [this, &from, &to](reactor::Bytes input) {
            if (target_.over) return input.size();
            to.write(input);
            from.pass_on_to(to);
            return input.size();
        };
        source_.on_end = [this, &from, &to] {
            from.close();
            if (!target_.over) to.close();
        };
        reactor::Connection& feeder = open(std::move(feeding), feeder_);
        feeder.write_file(reactor::FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
        feeder.close();
    }

    void exchange_datagrams() {
        using namespace reactor;
        Socket server = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        Socket client = Socket::open(Address::Family::ipv4, SocketKind::datagram);
        server.bind(*Address::ip("127.0.0.1", 0));
        (void)client.connect(server.local());
        DatagramEndpoint::open(reactor_, std::move(server), std::make_unique<Answerer>());
        DatagramEndpoint::open(reactor_, std::move(client), std::make_unique<Asker>(*this));
    }

    std::string left() const {
        std::string result;
        if (!client_.over || client_.input != "hello") result += " echo";
        if (!feeder_.over || feeder_.reason) result += " file";
        if (!sink_.over || sink_.input != content_) result += " passing-on";
        if (answered_ != 6) result += " datagrams";
        if (exit_.signal != SIGTERM) result += " child";
        if (!posted_) result += " post";
        if (!rung_) result += " timer";
        return result;
    }

    const std::string_view content_;
    Journal client_, feeder_, source_, target_, sink_;
    std::size_t answered_ = 0;  // bytes
    bool posted_ = false, rung_ = false, signalled_ = false;
    reactor::ExitStatus exit_;
    reactor::Reactor reactor_;
    reactor::Timer bell_{reactor_, [this] { rung_ = true; }};
    reactor::Acceptor acceptor_;
    reactor::Connector connector_;
    reactor::Process child_;
};
