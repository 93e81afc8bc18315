// Every cut: wherever the stream of a peer is cut, or ends, the protocol sees the same. The peer is OpenSSL alone, and
// does what it may: a handshake, data, a KeyUpdate that asks for one, its end while this side goes on, or an alert.
#include "raw_peer.hpp"

#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>

using namespace reactor;

namespace {

constexpr std::size_t never = std::string::npos;

struct Script {
    bool server = true;  // this side
    TlsVersion version = TlsVersion::tls_1_3;
    bool alert = false;          // in the end, in place of a close_notify
    std::size_t cut = never;     // the peer's stream, behind so many bytes
    std::size_t piece = never;   // in pieces of so many
    std::size_t end_at = never;  // the carrier ends there
};

struct Outcome {
    std::string calls, input, reason, peer_received;
    bool peer_saw_end = false;
    std::size_t size = 0;  // of the peer's stream

    friend bool operator==(const Outcome& one, const Outcome& other) {
        return one.calls == other.calls && one.input == other.input && one.reason == other.reason &&
               one.peer_received == other.peer_received && one.peer_saw_end == other.peer_saw_end;
    }
    friend std::ostream& operator<<(std::ostream& out, const Outcome& result) {
        return out << result.calls << '|' << result.input << '|' << result.reason << '|' << result.peer_received << '|'
                   << result.peer_saw_end;
    }
};

// The contexts are made once: most of a run would be reading PEM otherwise.
std::unique_ptr<Protocol> with_tls(const Script& script, std::unique_ptr<Protocol> protocol) {
    static const TlsContext server(server_options()), client(client_options());
    return script.server ? tls(server, std::move(protocol)) : tls(client, "localhost", std::move(protocol));
}

Outcome play(const Script& script) {
    Journal journal;
    RawPeer peer(!script.server, script.version);
    testing::MemoryTransport ours(with_tls(script, std::make_unique<Recorder>(journal)));
    journal.on_received = [&](Bytes input) {
        journal.input += text_of(input);
        journal.transport->write(input);
        return input.size();
    };
    journal.on_end = [&] {
        journal.transport->write("goodbye");
        journal.transport->close();
    };
    Outcome result;
    bool over = false;
    const auto feed = [&](std::string_view data) {
        if (result.size + data.size() >= script.end_at) {
            data = data.substr(0, script.end_at - result.size);
            over = true;
        }
        for (std::size_t at = 0; at < data.size();) {
            std::size_t size = std::min(data.size() - at, script.piece);
            const std::size_t before = result.size + at;
            if (script.cut > before && script.cut < before + size) size = script.cut - before;
            ours.feed(data.substr(at, size));
            at += size;
        }
        result.size += data.size();
        if (over) ours.end();
    };
    const auto talk = [&](const auto& change) {
        std::string from_peer;
        do {
            peer.feed(change(ours.take()));
            from_peer = peer.take();
            if (!from_peer.empty() && !over) feed(from_peer);
        } while (!from_peer.empty() || !ours.output().empty());
    };
    const auto unchanged = [](std::string data) { return data; };
    peer.step();
    if (const std::string hello = peer.take(); !hello.empty()) feed(hello);
    talk(unchanged);
    if (SSL_is_init_finished(peer.ssl())) {
        peer.write("one ");
        peer.write(std::string(200, 'x'));
        if (script.version == TlsVersion::tls_1_3) SSL_key_update(peer.ssl(), SSL_KEY_UPDATE_REQUESTED);
        peer.write(" two");
        talk(unchanged);
        if (script.alert) {
            peer.write(" three");  // the answer to this is changed on its way
            talk([](std::string data) {
                if (!data.empty()) data.back() = char(data.back() ^ 1);
                return data;
            });
        } else {
            SSL_shutdown(peer.ssl());
            talk(unchanged);
        }
    }
    if (!over) ours.end();
    for (const std::string& call : journal.calls) result.calls += call + ' ';
    result.input = journal.input;
    result.reason = journal.reason.message();
    result.peer_received = peer.received;
    result.peer_saw_end = peer.ended();
    return result;
}

template <class Body>
void for_each_side_and_version(Body body) {
    for (const bool server : {true, false})
        for (const TlsVersion version : {TlsVersion::tls_1_2, TlsVersion::tls_1_3}) body(Script{server, version});
}

const std::string all_input = "one " + std::string(200, 'x') + " two";

}  // namespace

TEST_CASE("A TLS stream may be cut anywhere: handshake, data, KeyUpdate, half-close and close_notify are the same") {
    for_each_side_and_version([](Script script) {
        const Outcome whole = play(script);
        CHECK(whole.calls == "connected end disconnected ");
        CHECK(whole.input == all_input);
        CHECK(whole.peer_received == all_input + "goodbye");
        CHECK(whole.peer_saw_end);
        CHECK(whole.reason == std::error_code().message());
        script.piece = 1;
        CHECK(play(script) == whole);
        script.piece = never;
        std::size_t size = whole.size;  // signatures differ in length by a few bytes
        for (script.cut = 1; script.cut < size; ++script.cut) {
            const Outcome result = play(script);
            if (!(result == whole)) FAIL_CHECK("cut at ", script.cut, ": ", result);
            size = result.size;
        }
        CHECK(size > 400);
    });
}

TEST_CASE("Wherever the carrier of a TLS stream ends before close_notify, the stream is truncated and has no end") {
    for_each_side_and_version([](Script script) {
        const std::size_t size = play(script).size;
        for (script.end_at = 0; script.end_at < size - 4; ++script.end_at) {
            const Outcome result = play(script);
            if (result.size < script.end_at) continue;  // a shorter signature
            const bool truncated = result.reason == make_error_code(Error::truncated).message();
            if (!truncated || result.calls.find("end") != std::string::npos || !all_input.starts_with(result.input))
                FAIL_CHECK("ended at ", script.end_at, ": ", result);
        }
    });
}

TEST_CASE("A fatal alert that is cut anywhere is the reason of the end") {
    for_each_side_and_version([](Script script) {
        script.alert = true;
        const Outcome whole = play(script);
        CHECK(whole.reason == "the peer's alert: bad record mac");
        CHECK(whole.input == all_input + " three");
        for (script.cut = whole.size - 40; script.cut < whole.size; ++script.cut) {
            const Outcome result = play(script);
            if (!(result == whole)) FAIL_CHECK("cut at ", script.cut, ": ", result);
        }
    });
}
