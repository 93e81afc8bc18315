// The cost of sending a file over a connection: by write_file, which leaves it to sendfile(2), and by reading and
// writing it, as a protocol must without that. The floor is the same written by hand on epoll, by sendfile and by pread
// and send. The other end is a thread that throws the bytes away without copying them; the processor time is that of
// the sending thread. The file lies in the kernel's memory.
#include <reactor/reactor.hpp>
#include <reactor/stream/connection.hpp>

#include <benchmark/benchmark.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace reactor;

namespace {

constexpr std::size_t piece = 64 * 1024;

FileDescriptor file_of(std::size_t size) {
    char path[] = "/tmp/reactor-bench-XXXXXX";
    FileDescriptor file(::mkstemp(path));
    ::unlink(path);
    const std::vector<char> text(size, 'x');
    if (!file || ::write(file.get(), text.data(), size) != ssize_t(size))
        throw std::runtime_error("cannot make a file");
    return file;
}

// The sending end of a TCP connection whose other end is emptied for as long as this lives.
class Emptied {
public:
    Emptied() {
        Socket listener = Socket::open(Address::Family::ipv4);
        listener.bind(*Address::ip("127.0.0.1", 0));
        listener.listen(1);
        receiving_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const Address address = listener.local();
        if (::connect(receiving_.get(), address.data(), socklen_t(address.size())) != 0)
            throw std::runtime_error("connect");
        Address peer;
        while (listener.accept(sending, peer)) {
        }
        thread_ = std::thread([this] {
            while (::recv(receiving_.get(), nullptr, 1 << 20, MSG_TRUNC) > 0) {
            }
        });
    }
    ~Emptied() {
        ::shutdown(receiving_.get(), SHUT_RDWR);
        thread_.join();
    }
    Emptied(const Emptied&) = delete;
    Emptied& operator=(const Emptied&) = delete;

    Socket sending;

private:
    FileDescriptor receiving_;
    std::thread thread_;
};

class Silent final : public Protocol {
    std::size_t received(Bytes input) override { return input.size(); }
};

// Reads and writes as the marks allow.
class Reading final : public Protocol {
public:
    void send(int file, std::size_t size) {
        file_ = file;
        at_ = 0;
        size_ = size;
        produce();
    }
    bool done() const { return at_ == size_; }

private:
    std::size_t received(Bytes input) override { return input.size(); }
    void resume_writing() override { produce(); }
    void produce() {
        while (at_ < size_ && transport().queued() <= transport().limits().high_mark) {
            const ssize_t count = ::pread(file_, buffer_.data(), buffer_.size(), off_t(at_));
            if (count <= 0) throw std::runtime_error("pread");
            transport().write(Bytes(buffer_).first(std::size_t(count)));
            at_ += std::size_t(count);
        }
    }
    std::vector<std::byte> buffer_ = std::vector<std::byte>(piece);
    int file_ = -1;
    std::size_t at_ = 0, size_ = 0;
};

void by_write_file(benchmark::State& state) {
    const auto size = std::size_t(state.range(0));
    const FileDescriptor file = file_of(size);
    Emptied way;
    Reactor loop;
    Connection& connection = Connection::open(loop, std::move(way.sending), std::make_unique<Silent>());
    loop.run_once();
    for (auto _ : state) {
        connection.write_file(FileDescriptor(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0)));
        while (connection.queued() > 0) loop.run_once();
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

void by_reading(benchmark::State& state) {
    const auto size = std::size_t(state.range(0));
    const FileDescriptor file = file_of(size);
    Emptied way;
    Reactor loop;
    auto protocol = std::make_unique<Reading>();
    Reading& reading = *protocol;
    Connection& connection = Connection::open(loop, std::move(way.sending), std::move(protocol));
    loop.run_once();
    for (auto _ : state) {
        reading.send(file.get(), size);
        while (!reading.done() || connection.queued() > 0) loop.run_once();
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

template <class Send>
void by_hand(benchmark::State& state, Send send) {
    const auto size = std::size_t(state.range(0));
    const FileDescriptor file = file_of(size);
    Emptied way;
    const FileDescriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLOUT | EPOLLET;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, way.sending.get(), &event);
    for (auto _ : state) {
        for (std::size_t at = 0; at < size;) {
            const ssize_t count = send(way.sending.get(), file.get(), at, size - at);
            if (count > 0) {
                at += std::size_t(count);
            } else if (errno == EAGAIN) {
                ::epoll_wait(epoll.get(), &event, 1, -1);
            } else {
                throw std::runtime_error("send");
            }
        }
    }
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(state.iterations() * state.range(0));
}

ssize_t bare_sendfile(int to, int from, std::size_t at, std::size_t size) {
    auto offset = off_t(at);
    return ::sendfile(to, from, &offset, std::min(size, 4 * piece));
}

ssize_t bare_send(int to, int from, std::size_t at, std::size_t size) {
    static std::vector<char> buffer(piece);
    const ssize_t count = ::pread(from, buffer.data(), std::min(size, piece), off_t(at));
    return ::send(to, buffer.data(), std::size_t(count), MSG_NOSIGNAL);
}

void bare_by_sendfile(benchmark::State& state) {
    by_hand(state, bare_sendfile);
}
void bare_by_reading(benchmark::State& state) {
    by_hand(state, bare_send);
}

const auto sizes = [](benchmark::internal::Benchmark* benchmark) {
    for (const int size : {4 << 10, 64 << 10, 1 << 20, 64 << 20}) benchmark->Arg(size);
};
BENCHMARK(by_write_file)->Name("files/reactor write_file")->Apply(sizes);
BENCHMARK(bare_by_sendfile)->Name("files/bare sendfile")->Apply(sizes);
BENCHMARK(by_reading)->Name("files/reactor reading")->Apply(sizes);
BENCHMARK(bare_by_reading)->Name("files/bare reading")->Apply(sizes);

}  // namespace
