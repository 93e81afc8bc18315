// The kernel's ring where a good guess of its behaviour goes wrong. Each test states a row of the table in
// reactor/guide/backends.md, without the library: it fails when a kernel behaves otherwise, and then the engine of
// completions (reactor/uring) is to be looked at.
#include "../support/loop.hpp"

#include <reactor/file_descriptor.hpp>
#include <reactor/net/socket.hpp>

#include <doctest/doctest.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

using Results = std::vector<std::pair<int, unsigned>>;  // of completions: result and flags

// A ring with eight buffers.
class Bare {
public:
    Bare() {
        io_uring_params parameters{};
        parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        ring_ = FileDescriptor(int(::syscall(__NR_io_uring_setup, entries, &parameters)));
        REQUIRE(ring_);
        char* const shared = map(1 << 16, ring_.get(), IORING_OFF_SQ_RING);
        requests_ = reinterpret_cast<io_uring_sqe*>(map(entries * sizeof(io_uring_sqe), ring_.get(), IORING_OFF_SQES));
        tail_ = reinterpret_cast<unsigned*>(shared + parameters.sq_off.tail);
        for (unsigned i = 0; i < entries; ++i) reinterpret_cast<unsigned*>(shared + parameters.sq_off.array)[i] = i;
        completed_head_ = reinterpret_cast<unsigned*>(shared + parameters.cq_off.head);
        completed_tail_ = reinterpret_cast<unsigned*>(shared + parameters.cq_off.tail);
        completed_ = reinterpret_cast<io_uring_cqe*>(shared + parameters.cq_off.cqes);
        mask_ = parameters.cq_entries - 1;
        auto* const pool = reinterpret_cast<io_uring_buf*>(map(4096, -1, 0));
        io_uring_buf_reg registered{};
        registered.ring_addr = reinterpret_cast<std::uintptr_t>(pool);
        registered.ring_entries = 8;
        REQUIRE(::syscall(__NR_io_uring_register, ring_.get(), IORING_REGISTER_PBUF_RING, &registered, 1) == 0);
        for (std::uint16_t i = 0; i < 8; ++i) {
            pool[i].addr = reinterpret_cast<std::uintptr_t>(memory_[i]);
            pool[i].len = sizeof memory_[i];
            pool[i].bid = i;
        }
        __atomic_store_n(&pool->resv, std::uint16_t(8), __ATOMIC_RELEASE);
    }
    ~Bare() {
        for (const auto& [start, size] : maps_) ::munmap(start, size);
    }

    io_uring_sqe& request(unsigned operation, const Socket& socket) {
        io_uring_sqe& entry = requests_[*tail_ % entries];
        std::memset(&entry, 0, sizeof entry);
        entry.opcode = std::uint8_t(operation);
        entry.fd = socket.get();
        __atomic_store_n(tail_, *tail_ + 1, __ATOMIC_RELEASE);
        ++waiting_;
        return entry;
    }
    io_uring_sqe& receive(const Socket& socket) {
        io_uring_sqe& entry = request(IORING_OP_RECV, socket);
        entry.ioprio = IORING_RECV_MULTISHOT | IORING_RECVSEND_POLL_FIRST;
        entry.flags = IOSQE_BUFFER_SELECT;
        return entry;
    }
    io_uring_sqe& send(const Socket& socket, const std::string& bytes, int flags) {
        io_uring_sqe& entry = request(IORING_OP_SEND, socket);
        entry.addr = reinterpret_cast<std::uintptr_t>(bytes.data());
        entry.len = unsigned(bytes.size());
        entry.msg_flags = unsigned(flags);
        entry.flags = IOSQE_CQE_SKIP_SUCCESS;
        return entry;
    }

    // Hands over, without waiting.
    Results enter(unsigned promised_besides = 0) {
        ::syscall(__NR_io_uring_enter, ring_.get(), std::exchange(waiting_, 0) + promised_besides, 0,
                  IORING_ENTER_GETEVENTS, nullptr, 0);
        Results results;
        for (unsigned at = *completed_head_; at != __atomic_load_n(completed_tail_, __ATOMIC_ACQUIRE); ++at)
            results.emplace_back(completed_[at & mask_].res, completed_[at & mask_].flags & IORING_CQE_F_MORE);
        __atomic_store_n(completed_head_, *completed_tail_, __ATOMIC_RELEASE);
        return results;
    }

private:
    char* map(std::size_t size, int descriptor, std::uint64_t offset) {
        const int flags = descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
        void* const start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, descriptor, off_t(offset));
        REQUIRE(start != MAP_FAILED);
        maps_.emplace_back(start, size);
        return static_cast<char*>(start);
    }

    static constexpr unsigned entries = 32;
    FileDescriptor ring_;
    std::vector<std::pair<void*, std::size_t>> maps_;
    io_uring_sqe* requests_;
    unsigned *tail_, *completed_head_, *completed_tail_;
    io_uring_cqe* completed_;
    unsigned mask_ = 0, waiting_ = 0;
    char memory_[8][256];
};

constexpr unsigned more = IORING_CQE_F_MORE;

bool kernel_is_older_than(int major, int minor) {
    utsname kernel{};
    REQUIRE(::uname(&kernel) == 0);
    std::istringstream release(kernel.release);
    int has_major = 0, has_minor = 0;
    char dot = 0;
    release >> has_major >> dot >> has_minor;
    return std::pair(has_major, has_minor) < std::pair(major, minor);
}

}  // namespace

TEST_CASE("A ring's poll for room to write completes when the peer has shut its side, whether there is room or not") {
    auto [mine, yours] = tcp_pair();
    while (write_some(mine, std::string(100'000, 'x')) > 0) {
    }
    Bare ring;
    ring.request(IORING_OP_POLL_ADD, mine).poll32_events = POLLOUT;
    CHECK(ring.enter().empty());
    (void)yours.shutdown_write();
    CHECK(ring.enter() == Results{{POLLRDHUP, 0}});
    ring.request(IORING_OP_POLL_ADD, mine).poll32_events = POLLOUT;
    CHECK(ring.enter() == Results{{POLLRDHUP, 0}});
}

TEST_CASE("A multishot receive that finds the last bytes and the end of a Unix socket never tells of the end") {
    auto [mine, yours] = Socket::pair();
    write_some(yours, "last words");
    yours.close();
    Bare ring;
    ring.receive(mine);
    if (kernel_is_older_than(6, 17)) return;  // which did not know how much waits in a Unix socket
    CHECK(ring.enter() == Results{{10, more}});
    CHECK(ring.enter().empty());
}

TEST_CASE("A multishot receive that finds input and a reset tells of the input, and never of the reset") {
    auto [mine, yours] = tcp_pair();
    write_some(yours, "last words");
    yours.set_linger(std::chrono::seconds(0));
    yours.close();
    Bare ring;
    ring.receive(mine);
    CHECK(ring.enter() == Results{{10, more}});
    CHECK(ring.enter().empty());
    CHECK(mine.pending_error() == std::errc::connection_reset);
}

TEST_CASE("A short send whose success is left out completes with MSG_WAITALL, and without it says nothing") {
    for (const bool all : {true, false}) {
        CAPTURE(all);
        auto [mine, yours] = Socket::pair();
        const std::string much(4'000'000, 'x');
        Bare ring;
        ring.send(mine, much, MSG_DONTWAIT | MSG_NOSIGNAL | (all ? MSG_WAITALL : 0));
        const Results results = ring.enter();
        const std::size_t sent = read_all(yours).size();
        CHECK(sent < much.size());
        CHECK(results == (all ? Results{{int(sent), 0}} : Results{}));
        const std::string little = "little";
        ring.send(mine, little, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_WAITALL);
        CHECK(ring.enter().empty());
        CHECK(read_all(yours) == "little");
    }
}

TEST_CASE("Entering with more requests promised than there are runs no completions") {
    auto [mine, yours] = Socket::pair();
    Bare ring;
    ring.receive(mine);
    CHECK(ring.enter().empty());
    write_some(yours, "input");
    CHECK(ring.enter(1).empty());
    CHECK(ring.enter() == Results{{5, more}});
}

TEST_CASE("A receive on a non-blocking socket waits") {
    auto [mine, yours] = Socket::pair();
    Bare ring;
    ring.receive(mine);
    CHECK(ring.enter().empty());
    write_some(yours, "input");
    CHECK(ring.enter() == Results{{5, more}});
}

TEST_CASE("A receive under way keeps its file open when the descriptor is closed, until it is cancelled") {
    auto [mine, yours] = tcp_pair();
    Bare ring;
    ring.receive(mine).user_data = 7;
    CHECK(ring.enter().empty());
    Socket place = Socket::open(Address::Family::ipv4);  // any, for the cancellation
    mine.close();
    bool ended = false;
    read_all(yours, &ended);
    CHECK_FALSE(ended);
    ring.request(IORING_OP_ASYNC_CANCEL, place).addr = 7;
    ring.enter();
    pollfd entry{yours.get(), POLLIN, 0};
    CHECK(::poll(&entry, 1, 10'000) == 1);
    read_all(yours, &ended);
    CHECK(ended);
}
