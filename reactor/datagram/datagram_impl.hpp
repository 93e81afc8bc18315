// Shared by the files of datagrams: the loop's workspace, the meaning of the kernel's errors, and the way into a
// protocol's call.
#pragma once

#include <reactor/datagram/datagram.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/last_error_impl.hpp>
#include <reactor/net/control_messages_impl.hpp>
#include <reactor/stream/connection.hpp>
#include <reactor/stream/detail/connection_group.hpp>
#include <reactor/system_impl.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>
#include <type_traits>
#include <utility>

namespace reactor {

namespace datagrams {

#if REACTOR_HAS(RECVMMSG)
using Message = ::mmsghdr;
#else
struct Message {
    msghdr msg_hdr;
    unsigned msg_len;
};
#endif

constexpr std::size_t most_batch = 64;
constexpr std::size_t output_room = 256 * 1024;  // answers that leave together and are no piece of the input
constexpr std::size_t largest_of_udp = 65'535;
// Of the others: Linux has Unix datagrams as long as its sender's SO_SNDBUF, which net.core.wmem_max bounds (208 KiB
// unless it was raised).
constexpr std::size_t largest_of_others = 16 * 1024 * 1024;
constexpr std::size_t input_room = 8 * 1024 * 1024;  // a batch takes no more, unless it is one datagram

// Slots side by side whose addresses differ by a power of two would meet in the same lines of the cache.
// No sum wraps: DatagramEndpoint bounds `largest`.
constexpr std::size_t stride_of(std::size_t largest) noexcept {
    return (largest + 63) / 64 * 64 + 5 * 64;
}

inline bool out_of_room(const std::error_code& error) noexcept {
    return error == std::errc::no_buffer_space || error == std::errc::not_enough_memory;
}

// Of a packet socket. Packets that the peer sent before may still be there to be read.
inline bool peer_is_gone(const std::error_code& error) noexcept {
    return error == std::errc::broken_pipe || error == std::errc::connection_reset || error == std::errc::not_connected;
}

}  // namespace datagrams

struct DatagramEndpoint::Outgoing {
    Bytes data;
    Route route;
};

// Both lie in queues as bytes.
static_assert(std::is_trivially_copyable_v<Route> && std::is_trivially_copyable_v<Datagram>);

struct DatagramEndpoint::Failure {
    Address to;
    std::error_code error;
};

// A place among those that an acceptor has accepted, which it counts.
struct DatagramEndpoint::Membership {
    Membership(ConnectionGroup& of, const DatagramEndpoint& endpoint) noexcept : group(&of), member(endpoint) {
        group->join();
        group->enter_loop(*group->workspace);
    }
    ~Membership() {
        group->leave(member);
        group->leave_loop();
    }
    Membership(const Membership&) = delete;
    Membership& operator=(const Membership&) = delete;

    const ConnectionGroup::Reference group;
    const DatagramEndpoint& member;
};

// Shared by the endpoints of a loop: only one of them is in its protocol, or in a system call, at a time.
struct DatagramEndpoint::Workspace final : reactor::Workspace {
    static constexpr std::size_t most_batch = datagrams::most_batch;

    // Of one message of a system call.
    struct Slot {
        iovec piece;  // these two of incoming ones only
        sockaddr_storage name;
        alignas(cmsghdr) std::array<char, 128> control;
    };

    std::unique_ptr<std::byte[]> input;
    std::size_t input_size = 0;
    std::unique_ptr<std::byte[]> larger;  // takes its place with the next batch
    std::size_t larger_size = 0;
    std::array<datagrams::Message, most_batch> incoming{};
    std::array<Slot, most_batch> incoming_slots;
    std::size_t prepared_for = 0;    // the length of datagram that the slots are laid out for
    std::size_t stale = most_batch;  // so many of them the kernel has written to since
    alignas(cmsghdr) std::array<char, CMSG_SPACE(control_messages::most_descriptors * sizeof(int))> descriptor_control;

    std::array<datagrams::Message, most_batch> leaving{};
    std::array<Slot, most_batch> leaving_slots;
    std::array<iovec, most_batch> pieces;
    std::array<std::size_t, most_batch> ends;  // which is the last piece of each message, and one more
    std::array<Outgoing, most_batch> waiting;  // the front of a queue

    const DatagramEndpoint* owner = nullptr;    // whose protocol is being called
    std::array<Outgoing, most_batch> gathered;  // sent in this call: in `output`, or still where it was received
    std::size_t gathered_count = 0;
    std::unique_ptr<std::byte[]> output{new std::byte[datagrams::output_room]};
    std::size_t output_used = 0;

    // A piece that begins in there ends in there.
    bool in_input(Bytes data) const noexcept {
        const auto begin = reinterpret_cast<std::uintptr_t>(input.get());
        return reinterpret_cast<std::uintptr_t>(data.data()) - begin < input_size;
    }
    void end() noexcept {
        owner = nullptr;
        gathered_count = output_used = 0;
    }
    // The endpoint that asks may be in a call with a datagram of the present input, and answer it afterwards.
    void make_room(std::size_t batch, std::size_t largest) {
        if (const std::size_t size = batch * datagrams::stride_of(largest); size > std::max(input_size, larger_size)) {
            larger.reset(new std::byte[size]);
            larger_size = size;
        }
    }
    // Lays out `count` slots, if they are not still so from the last time.
    void prepare(std::size_t count, std::size_t largest) noexcept {
        if (larger != nullptr) {
            input = std::move(larger);
            input_size = std::exchange(larger_size, 0);
            prepared_for = 0;
        }
        if (prepared_for != largest) {
            prepared_for = largest;
            stale = most_batch;
        }
        for (std::size_t index = 0; index < std::min(stale, count); ++index) {
            Slot& slot = incoming_slots[index];
            msghdr& header = incoming[index].msg_hdr;
            slot.piece = {input.get() + index * datagrams::stride_of(largest), largest};
            header.msg_name = &slot.name;
            header.msg_namelen = sizeof slot.name;
            header.msg_iov = &slot.piece;
            header.msg_iovlen = 1;
            header.msg_control = slot.control.data();
            header.msg_controllen = socklen_t(slot.control.size());
            header.msg_flags = 0;
        }
        if (count >= stale) stale = 0;
    }
};

inline DatagramEndpoint::Workspace& DatagramEndpoint::workspace() const noexcept {
    return static_cast<Workspace&>(*Internals(registration_.reactor()).datagrams());
}

template <class Call>
void DatagramEndpoint::call(Call&& protocol_call) {
    Workspace& space = workspace();
    space.owner = this;
    try {
        protocol_call();
    } catch (...) {
        callback_failed(space);
        throw;
    }
    leave_callback(space);
}

}  // namespace reactor
