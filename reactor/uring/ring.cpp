// io_uring(7) by its three system calls: setup, register, enter. They are few, and the memory that is shared with the
// kernel is the interface; a library between would be one more thing to install for a page of code.
#include <reactor/system_impl.hpp>
#if REACTOR_HAS(IO_URING)

#include <reactor/backends/kernel_words_impl.hpp>
#include <reactor/beyond_standard_impl.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/uring/ring_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <system_error>
#include <utility>

#if defined(IORING_SETUP_DEFER_TASKRUN)

namespace reactor {

namespace {

static_assert(sizeof(Completion) == sizeof(io_uring_cqe) &&
              offsetof(Completion, result) == offsetof(io_uring_cqe, res) &&
              offsetof(Completion, flags) == offsetof(io_uring_cqe, flags));
static_assert(Completion::with_buffer == IORING_CQE_F_BUFFER && Completion::more == IORING_CQE_F_MORE);

constexpr unsigned submissions = 2048;
constexpr unsigned completions = 8192;  // the kernel keeps what does not fit, and receives no further
constexpr unsigned pool_entries = 4096;
constexpr std::uint16_t pool_group = 0;

std::system_error failure(const char* call) {
    return std::system_error(errno, std::system_category(), call);
}

class Mapping {
public:
    Mapping(std::size_t size, int descriptor, off_t offset)
        : size_(size),
          start_(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                        descriptor < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE, descriptor, offset)) {
        if (start_ == MAP_FAILED) throw failure("mmap for io_uring");
    }
    ~Mapping() { ::munmap(start_, size_); }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    template <class T>
    T* at(std::size_t offset) const noexcept {
        return reinterpret_cast<T*>(static_cast<std::byte*>(start_) + offset);
    }

private:
    std::size_t size_;
    void* start_;
};

class Ring final : public CompletionQueue {
public:
    Ring();

    Place receive(int descriptor, std::uint64_t data) override;
    Place accept(int descriptor, std::uint64_t data) override;
    Place send(int descriptor, Bytes bytes, std::uint64_t data) override;
    Place poll(int descriptor, Interest interest, std::uint64_t data) override;
    void cancel(std::uint64_t data) override;
    bool handed_over(Place place) const noexcept override { return std::int32_t(place - handed_over_) < 0; }
    void withdraw(Place place) noexcept override;
    std::size_t waiting() const noexcept override { return tail_ - handed_over_; }
    std::span<const Completion> wait(std::optional<Duration> limit) override;
    void give(std::uint16_t buffer, std::span<std::byte> memory) noexcept override;
    int descriptor() const noexcept override { return ring_.get(); }

private:
    io_uring_sqe& next(int descriptor, unsigned operation, std::uint64_t data);
    int enter(unsigned count, unsigned wanted, unsigned flags, std::optional<Duration> limit) noexcept;
    void hand_over();
    void enable();
    bool is_empty() const noexcept { return *completed_head_ == __atomic_load_n(completed_tail_, __ATOMIC_ACQUIRE); }
    std::span<const Completion> completed();

    io_uring_params parameters_{};
    FileDescriptor ring_;
    std::unique_ptr<Mapping> rings_, requests_, pool_;
    unsigned* shared_tail_;
    unsigned* completed_head_;
    unsigned* completed_tail_;
    io_uring_sqe* entries_;
    const Completion* completed_;
    unsigned tail_ = 0, handed_over_ = 0;
    std::uint16_t pool_tail_ = 0;
    bool enabled_ = false;
    std::unique_ptr<Completion[]> found_;
};

}  // namespace

// The thread that enables it is the only one that may use it.
Ring::Ring() {
    parameters_.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED |
                        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    parameters_.cq_entries = completions;
    ring_ = beyond_standard(int(::syscall(__NR_io_uring_setup, submissions, &parameters_)));
    if (!ring_) throw failure("io_uring_setup");
    const io_sqring_offsets& to = parameters_.sq_off;
    const io_cqring_offsets& from = parameters_.cq_off;
    rings_ = std::make_unique<Mapping>(std::max<std::size_t>(to.array + parameters_.sq_entries * sizeof(unsigned),
                                                             from.cqes + parameters_.cq_entries * sizeof(io_uring_cqe)),
                                       ring_.get(), off_t(IORING_OFF_SQ_RING));
    requests_ =
        std::make_unique<Mapping>(parameters_.sq_entries * sizeof(io_uring_sqe), ring_.get(), off_t(IORING_OFF_SQES));
    shared_tail_ = rings_->at<unsigned>(to.tail);
    completed_head_ = rings_->at<unsigned>(from.head);
    completed_tail_ = rings_->at<unsigned>(from.tail);
    entries_ = requests_->at<io_uring_sqe>(0);
    completed_ = rings_->at<const Completion>(from.cqes);
    for (unsigned i = 0; i < parameters_.sq_entries; ++i) rings_->at<unsigned>(to.array)[i] = i;

    pool_ = std::make_unique<Mapping>(pool_entries * sizeof(io_uring_buf), -1, 0);
    io_uring_buf_reg registered{};
    registered.ring_addr = reinterpret_cast<std::uintptr_t>(pool_->at<void>(0));
    registered.ring_entries = pool_entries;
    registered.bgid = pool_group;
    if (::syscall(__NR_io_uring_register, ring_.get(), IORING_REGISTER_PBUF_RING, &registered, 1) < 0)
        throw failure("io_uring_register(IORING_REGISTER_PBUF_RING)");
    found_.reset(new Completion[parameters_.cq_entries]);
}

// Not by the headers' own array of buffers: in C++ an empty structure has a size, and moves it (Linux 6.1's
// io_uring.h). The tail lies in the first entry, in a field that a buffer does not use.
void Ring::give(std::uint16_t buffer, std::span<std::byte> memory) noexcept {
    io_uring_buf& entry = pool_->at<io_uring_buf>(0)[pool_tail_ & (pool_entries - 1)];
    entry.addr = reinterpret_cast<std::uintptr_t>(memory.data());
    entry.len = std::uint32_t(memory.size());
    entry.bid = buffer;
    ++pool_tail_;
    __atomic_store_n(&pool_->at<io_uring_buf>(0)->resv, pool_tail_, __ATOMIC_RELEASE);
}

// ── requests ──

io_uring_sqe& Ring::next(int descriptor, unsigned operation, std::uint64_t data) {
    if (waiting() == parameters_.sq_entries) hand_over();
    io_uring_sqe& entry = entries_[tail_ & (parameters_.sq_entries - 1)];
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = std::uint8_t(operation);
    entry.fd = descriptor;
    entry.user_data = data;
    ++tail_;
    return entry;
}

CompletionQueue::Place Ring::receive(int descriptor, std::uint64_t data) {
    io_uring_sqe& entry = next(descriptor, IORING_OP_RECV, data);
    // It waits first: input comes later, as a rule, and a try costs a system call's work.
    entry.ioprio = IORING_RECV_MULTISHOT | IORING_RECVSEND_POLL_FIRST;
    entry.flags = IOSQE_BUFFER_SELECT;
    entry.buf_group = pool_group;
    return tail_ - 1;
}

CompletionQueue::Place Ring::accept(int descriptor, std::uint64_t data) {
    io_uring_sqe& entry = next(descriptor, IORING_OP_ACCEPT, data);
    entry.ioprio = IORING_ACCEPT_MULTISHOT;
    entry.accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    return tail_ - 1;
}

// MSG_WAITALL makes a short send a failure, and so a completion. Without it a success that is left out hides the rest
// (Linux 6.18).
CompletionQueue::Place Ring::send(int descriptor, Bytes bytes, std::uint64_t data) {
    io_uring_sqe& entry = next(descriptor, IORING_OP_SEND, data);
    entry.addr = reinterpret_cast<std::uintptr_t>(bytes.data());
    entry.len = std::uint32_t(bytes.size());
    entry.msg_flags = std::uint32_t(send_flags | MSG_DONTWAIT | MSG_WAITALL);
    entry.flags = IOSQE_CQE_SKIP_SUCCESS;
    return tail_ - 1;
}

CompletionQueue::Place Ring::poll(int descriptor, Interest interest, std::uint64_t data) {
    io_uring_sqe& entry = next(descriptor, IORING_OP_POLL_ADD, data);
    entry.poll32_events = std::uint32_t(interest);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    entry.poll32_events = entry.poll32_events << 16;
#endif
    return tail_ - 1;
}

void Ring::cancel(std::uint64_t data) {
    io_uring_sqe& entry = next(-1, IORING_OP_ASYNC_CANCEL, of_cancellation(data));
    entry.addr = data;
    entry.flags = IOSQE_CQE_SKIP_SUCCESS;
}

void Ring::withdraw(Place place) noexcept {
    io_uring_sqe& entry = entries_[place & (parameters_.sq_entries - 1)];
    std::memset(&entry, 0, sizeof entry);
    entry.opcode = IORING_OP_NOP;
    entry.fd = -1;
    entry.flags = IOSQE_CQE_SKIP_SUCCESS;
    entry.user_data = of_no_request;
}

// ── waiting ──

int Ring::enter(unsigned count, unsigned wanted, unsigned flags, std::optional<Duration> limit) noexcept {
    if (!limit || wanted == 0)
        return int(::syscall(__NR_io_uring_enter, ring_.get(), count, wanted, flags, nullptr, std::size_t(0)));
    const backends::Timeout timeout(limit);
    const __kernel_timespec time{timeout.get()->tv_sec, timeout.get()->tv_nsec};
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<std::uintptr_t>(&time);
    return int(::syscall(__NR_io_uring_enter, ring_.get(), count, wanted, flags | IORING_ENTER_EXT_ARG, &argument,
                         sizeof argument));
}

void Ring::enable() {
    if (enabled_) return;
    if (::syscall(__NR_io_uring_register, ring_.get(), IORING_REGISTER_ENABLE_RINGS, nullptr, 0) < 0)
        throw failure("io_uring_register(IORING_REGISTER_ENABLE_RINGS)");
    enabled_ = true;
}

// Without waiting.
void Ring::hand_over() {
    enable();
    __atomic_store_n(shared_tail_, tail_, __ATOMIC_RELEASE);
    const int count = enter(unsigned(waiting()), 0, 0, std::nullopt);
    if (count < 0) throw failure("io_uring_enter");
    handed_over_ += unsigned(count);
}

std::span<const Completion> Ring::wait(std::optional<Duration> limit) {
    enable();
    __atomic_store_n(shared_tail_, tail_, __ATOMIC_RELEASE);
    const unsigned wanted = limit == Duration::zero() ? 0 : 1;
    const unsigned requested = unsigned(waiting());
    int count = enter(requested, wanted, IORING_ENTER_GETEVENTS, limit);
    // The kernel has no memory for requests now, or more completions than it has room for: those first.
    if (count < 0 && requested > 0 && (errno == EAGAIN || errno == EBUSY || errno == ENOMEM))
        count = enter(0, 0, IORING_ENTER_GETEVENTS, std::nullopt);
    // Completions that are there already come first, and the error with the next call: another thread may have run the
    // loop until now, to which the ring belongs (EEXIST).
    if (count < 0 && errno != ETIME && errno != EINTR && errno != EBUSY && is_empty()) throw failure("io_uring_enter");
    // It returns how many it has taken. If that is not all it has not waited either, and is asked again.
    if (count > 0) handed_over_ += unsigned(count);
    return completed();
}

std::span<const Completion> Ring::completed() {
    const unsigned head = *completed_head_;
    const unsigned tail = __atomic_load_n(completed_tail_, __ATOMIC_ACQUIRE);
    const unsigned mask = parameters_.cq_entries - 1;
    for (unsigned i = head; i != tail; ++i) found_[i - head] = completed_[i & mask];
    __atomic_store_n(completed_head_, tail, __ATOMIC_RELEASE);
    return {found_.get(), tail - head};
}

std::unique_ptr<CompletionQueue> make_ring() {
    return std::make_unique<Ring>();
}

// Asked for a ring without entries the kernel objects to that (EINVAL), or to the call. A ring that were made and
// closed would interrupt this thread later (EINTR). To do that on a thread of its own would make the process one with
// threads, and then each system call of glibc's that may wait costs 49 instructions more for ever.
bool ring_is_allowed() noexcept {
    io_uring_params none{};
    if (::syscall(__NR_io_uring_setup, 0, &none) >= 0 || errno != EINVAL) return false;
    utsname kernel{};
    if (::uname(&kernel) != 0) return false;
    char* minor = nullptr;
    const long major = std::strtol(kernel.release, &minor, 10);
    return major > 6 || (major == 6 && *minor == '.' && std::strtol(minor + 1, nullptr, 10) >= 1);
}

}  // namespace reactor

#else

std::unique_ptr<reactor::CompletionQueue> reactor::make_ring() {
    throw std::system_error(ENOSYS, std::system_category(), "io_uring_setup: built with headers before Linux 6.1");
}

bool reactor::ring_is_allowed() noexcept {
    return false;
}

#endif

#endif
