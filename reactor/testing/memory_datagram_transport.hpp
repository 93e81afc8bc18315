// A socket of datagrams that is nothing but memory: a DatagramProtocol is tested on it with no socket, no loop and no
// waiting. The test plays the network and decides which datagrams come from which address, how much room there is, and
// which are refused.
//
//     MemoryDatagramTransport socket(std::make_unique<DatagramEcho>());
//     socket.feed("hello", *Address::ip("192.0.2.1", 7));
//     CHECK(socket.take().at(0).data == "hello");
#pragma once

#include <reactor/datagram/datagram_protocol.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor::testing {

/// Keeps every promise of DatagramTransport and DatagramProtocol: calls come in order, never from inside a call to the
/// transport, and the end comes once, last. Each datagram lies in memory of its own for the time of the call, so that
/// a sanitizer sees a protocol that reads past it or keeps it. An exception out of a protocol closes the socket
/// (Error::exception) and leaves the test's call that led to it.
class REACTOR_EXPORT MemoryDatagramTransport final : public DatagramTransport {
public:
    /// Opens: `opened` is called. The protocol is destroyed after `closed`, as by any transport. At `queue_limit` bytes
    /// that wait for room, what is sent is dropped.
    explicit MemoryDatagramTransport(std::unique_ptr<DatagramProtocol> protocol, std::size_t queue_limit = 256 * 1024);

    /// The same for a protocol that the test keeps, and must keep longer than this.
    explicit MemoryDatagramTransport(DatagramProtocol& protocol, std::size_t queue_limit = 256 * 1024);

    // ── what the network does; each call lets the protocol do all that follows from it ──

    /// This datagram comes; its data is copied, its descriptors are the given ones. Lost if the socket is closed.
    void feed(const Datagram& datagram, std::vector<FileDescriptor> descriptors = {});
    void feed(std::string_view data, const Address& sender = {});

    /// One that was sent to `to` did not get there.
    void refuse(const Address& to, std::error_code error = std::make_error_code(std::errc::connection_refused));

    /// There is no room: datagrams stay queued.
    void fill() { window_ = 0; }
    /// There is room for so many more datagrams, queued now or later.
    void drain(std::size_t datagrams);
    /// There is room for everything, now and from now on. It is so at the beginning.
    void drain() { drain(std::numeric_limits<std::size_t>::max()); }

    /// The socket fails.
    void fail(std::error_code reason);

    /// Makes the calls that the protocol's own actions led to. Needed only after it acted outside a call of this
    /// transport, in a timer for instance.
    void settle();

    // ── what the network sees ──

    /// A datagram as it left the protocol.
    struct Sent {
        Route route;
        std::string data;
        std::vector<int> descriptors;  ///< the protocol's own, as it gave them: not copies
    };
    const std::vector<Sent>& sent() const noexcept { return sent_; }
    /// The same, which is then gone.
    std::vector<Sent> take() { return std::exchange(sent_, {}); }

    // ── what the test may want to know besides ──

    /// The reason that `closed` was called with, if it was.
    std::optional<std::error_code> closed() const noexcept { return told_; }
    /// Datagrams fed and not yet received, because the protocol paused.
    std::size_t waiting() const noexcept { return incoming_.size(); }
    void set_addresses(const Address& local, const Address& peer);
    void set_peer_credentials(const PeerCredentials& credentials) { credentials_ = credentials; }

    // ── what the protocol sees ──

    using DatagramTransport::send;
    bool send(const Route& route, Bytes data) override;
    bool send_descriptors(const Route& route, Bytes data, std::span<const int> descriptors) override;
    void pause_receiving() override { paused_ = true; }
    void resume_receiving() override { paused_ = false; }
    void close() override { closing_ = true; }
    std::size_t queued() const noexcept override { return queued_; }
    std::uint64_t dropped() const noexcept override { return dropped_; }
    Address local() const override { return local_; }
    Address peer() const override { return peer_; }
    std::optional<PeerCredentials> peer_credentials() const override { return credentials_; }

private:
    struct Incoming {
        Datagram datagram;
        std::string data;
        std::vector<FileDescriptor> descriptors;
    };

    bool step();
    void deliver();
    void finish(std::error_code reason);
    bool take_room() noexcept;
    void flush();

    std::unique_ptr<DatagramProtocol> owned_;
    DatagramProtocol* protocol_;
    const std::size_t queue_limit_;
    Address local_, peer_;
    std::optional<PeerCredentials> credentials_;

    std::deque<Incoming> incoming_;
    std::deque<std::pair<Address, std::error_code>> refusals_;
    std::deque<Sent> queue_;
    std::size_t queued_ = 0;
    std::vector<Sent> sent_;
    std::size_t window_ = std::numeric_limits<std::size_t>::max();
    std::uint64_t dropped_ = 0;

    bool opened_ = false;
    bool settling_ = false;
    bool paused_ = false;
    bool wants_room_ = false;  // something was dropped, and resume_sending is owed
    bool closing_ = false;
    std::optional<std::error_code> failed_;
    std::optional<std::error_code> told_;
};

}  // namespace reactor::testing
