// The connections of each peer, for an acceptor that limits them. Not installed.
#pragma once

#include <reactor/net/address.hpp>

#include <cstddef>
#include <map>
#include <utility>

namespace reactor {

class SocketConnection;

// By addresses without port. A peer is counted before its connection is there, and the note of the connection has its
// memory by then: putting it in its place cannot fail.
struct PeerCounts {
    using Counts = std::map<Address, std::size_t>;
    // By connection, since a peer's address cannot be asked for reliably once the connection has ended.
    using Notes = std::map<const SocketConnection*, Counts::iterator>;

    Notes::node_type count_one_more(const Address& peer) {
        Notes made;
        // A node that was made and taken out: inserting it later allocates nothing.
        made.emplace(nullptr, counts.end());
        Notes::node_type note = made.extract(made.begin());
        note.mapped() = counts.try_emplace(peer).first;
        ++note.mapped()->second;
        return note;
    }
    void count_one_less(Counts::iterator peer) noexcept {
        if (--peer->second == 0) counts.erase(peer);
    }
    void put(const SocketConnection& connection, Notes::node_type note) noexcept {
        note.key() = &connection;
        notes.insert(std::move(note));
    }
    void ended(const SocketConnection& connection) noexcept {
        const auto note = notes.find(&connection);
        if (note == notes.end()) return;  // adopted
        count_one_less(note->second);
        notes.erase(note);
    }

    Counts counts;
    Notes notes;
};

}  // namespace reactor
