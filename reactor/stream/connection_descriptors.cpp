// Descriptors over a connection (SCM_RIGHTS, unix(7)). In a stream they travel with a byte, and so does a descriptor
// here: it waits in the queue with the byte that it goes with, and whatever happens to that byte, it has an owner.
#include <reactor/last_error_impl.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/without_sigpipe_impl.hpp>

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace reactor {

namespace {

using control_messages::close_unwanted;
using control_messages::most_descriptors;
using Control = std::array<char, CMSG_SPACE(most_descriptors * sizeof(int))>;

}  // namespace

bool SocketConnection::send_descriptors(Bytes data, std::span<const int> descriptors) {
    if (data.empty()) throw std::invalid_argument("Connection::send_descriptors: there is no byte for them to go with");
    if (descriptors.size() > most_descriptors)
        throw std::invalid_argument("Connection::send_descriptors: " + std::to_string(descriptors.size()) +
                                    " at once; 253 are the most");
    if (socket_.local().family() != Address::Family::unix_domain)
        throw std::invalid_argument("Connection::send_descriptors: not a Unix socket");
    if (is(shutting | closing | output_broken | over)) return false;
    if (descriptors.empty()) return write(data);

    std::vector<FileDescriptor> copies;
    copies.reserve(descriptors.size());
    for (const int descriptor : descriptors) {
        copies.emplace_back(::fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
        if (!copies.back())
            throw std::system_error(errno, std::system_category(),
                                    "fcntl(F_DUPFD_CLOEXEC) of " + std::to_string(descriptor));
    }
    if (make_extra().passing == nullptr) extra()->passing = std::make_unique<Passing>();
    Passing& passing = *extra()->passing;
    return queue_behind([&] {
        passing.to_send.push_back({passing.sent + parts_->output.in_memory(), std::move(copies)});
        queue(data);
    });
}

FileDescriptor SocketConnection::take_descriptor() noexcept {
    if (parts_ == nullptr || extra()->passing == nullptr || extra()->passing->received.empty()) return {};
    std::deque<FileDescriptor>& received = extra()->passing->received;
    FileDescriptor first = std::move(received.front());
    received.pop_front();
    return first;
}

// From now on so many may wait; those that wait already stay. Throws std::bad_alloc, and then nothing has changed.
void SocketConnection::accept_descriptors(std::size_t most) {
    if (most == 0 && !is(takes_descriptors)) return;
    if (socket_.local().family() != Address::Family::unix_domain) return;
    if (make_extra().passing == nullptr) extra()->passing = std::make_unique<Passing>();
    extra()->passing->most = most;
    if (is(completes)) workspace().completions->receive_ahead(socket_.get(), most == 0);
    most > 0 ? set(takes_descriptors) : unset(takes_descriptors);
    socket_.set_accepts_descriptors(most > 0);
}

// As send(2), of the output: up to the next descriptors, or from them on.
ssize_t SocketConnection::send_with_descriptors(Bytes data) noexcept {
    std::deque<Passing::Outgoing>& to_send = extra()->passing->to_send;
    const std::uint64_t sent = extra()->passing->sent;
    if (to_send.front().at > sent) {
        data = data.first(std::size_t(std::min<std::uint64_t>(data.size(), to_send.front().at - sent)));
        return ::send(socket_.get(), data.data(), data.size(), send_flags);
    }
    if (to_send.size() > 1) data = data.first(std::size_t(std::min<std::uint64_t>(data.size(), to_send[1].at - sent)));
    const std::vector<FileDescriptor>& descriptors = to_send.front().descriptors;
    iovec piece{const_cast<std::byte*>(data.data()), data.size()};
    alignas(cmsghdr) Control control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    control_messages::put_descriptors(message, descriptors);
    const ssize_t count = ::sendmsg(socket_.get(), &message, send_flags);
    if (count > 0) to_send.pop_front();
    return count;
}

// Why not, if it is not kept.
std::error_code SocketConnection::keep_descriptor(FileDescriptor& descriptor) noexcept {
    Passing& passing = *extra()->passing;
    if (passing.received.size() >= passing.most) return Error::descriptor_limit;
    try {
        passing.received.push_back(std::move(descriptor));
    } catch (const std::bad_alloc&) {
        return std::make_error_code(std::errc::not_enough_memory);
    }
    return {};
}

// As recv(2). Received descriptors have an owner before anything else is done; while closing, they are not taken.
ssize_t SocketConnection::receive_with_descriptors(std::byte* into, std::size_t size) noexcept {
    if (is(completes) && !workspace().completions->reads_directly(socket_.get())) return receive(into, size);
    iovec piece{into, size};
    alignas(cmsghdr) Control control;
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t count = ::recvmsg(socket_.get(), &message, control_messages::receive_flags);
    if (count < 0) return count;
    std::error_code refused;
    for (cmsghdr* entry = CMSG_FIRSTHDR(&message); entry != nullptr; entry = CMSG_NXTHDR(&message, entry)) {
        control_messages::take_descriptors(entry, [&](FileDescriptor descriptor) {
            if (!refused && !is(closing)) refused = descriptor ? keep_descriptor(descriptor) : last_error();
            close_unwanted(std::move(descriptor));
        });
    }
    if (is(closing)) return count;
    if (!refused && (message.msg_flags & MSG_CTRUNC) != 0)
        refused = std::make_error_code(std::errc::too_many_files_open);
    if (refused) finish(refused);
    return count;
}

}  // namespace reactor
