// How fast do framings find messages in memory? The floors are memcpy of the same bytes, and
// memchr for a byte that is not there. Not measured: sockets, and the work of a protocol on its messages.
#include <protocols/framing/any_framing.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <benchmark/benchmark.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

constexpr std::size_t stream_size = 64 * 1024;  // bytes of one read

struct Sink {
    std::string bytes;
    void write(Bytes more) { bytes += text_of(more); }
};

/// As many messages of this size as one read brings, encoded.
template <class F>
std::string stream(const F& framing, std::size_t message_size) {
    const std::string message(message_size, 'x');
    Sink sink;
    while (sink.bytes.size() < stream_size) encode(framing, bytes_of(message), sink);
    return sink.bytes;
}

template <class F>
void decode(benchmark::State& state, F framing) {
    const auto size = std::size_t(state.range(0));
    const std::string input = stream(framing, size);
    std::size_t messages = 0;
    for (auto unused : state) {
        Bytes left = bytes_of(input);
        for (;;) {
            const Decoded decoded = framing.next(left);
            if (decoded.status != Decoded::Status::message) break;
            benchmark::DoNotOptimize(decoded.message.data());
            left = left.subspan(decoded.consumed);
            ++messages;
        }
    }
    state.SetBytesProcessed(std::int64_t(state.iterations()) * std::int64_t(input.size()));
    state.SetItemsProcessed(std::int64_t(messages));
}

void fixed(benchmark::State& state) {
    decode(state, FixedLength(std::size_t(state.range(0))));
}
void length_2(benchmark::State& state) {
    decode(state, LengthPrefixed(2));
}
void length_4(benchmark::State& state) {
    decode(state, LengthPrefixed(4));
}
void length_8_little(benchmark::State& state) {
    decode(state, LengthPrefixed(8, std::endian::little));
}
void varint(benchmark::State& state) {
    decode(state, VarintPrefixed());
}
void netstring(benchmark::State& state) {
    decode(state, Netstring());
}
void lines(benchmark::State& state) {
    decode(state, Lines());
}
void delimited_lf(benchmark::State& state) {
    decode(state, Delimited("\n"));
}
void delimited_blank_line(benchmark::State& state) {
    decode(state, Delimited("\r\n\r\n"));
}
void any_length_4(benchmark::State& state) {
    decode(state, AnyFraming(LengthPrefixed(4)));
}
void any_lines(benchmark::State& state) {
    decode(state, AnyFraming(Lines()));
}

BENCHMARK(fixed)->Arg(64);
BENCHMARK(length_2)->Arg(64);
BENCHMARK(length_4)->Arg(64)->Arg(4096);
BENCHMARK(length_8_little)->Arg(64);
BENCHMARK(varint)->Arg(64)->Arg(4096);
BENCHMARK(netstring)->Arg(64);
BENCHMARK(lines)->Arg(64)->Arg(1024)->Arg(16384);
BENCHMARK(delimited_lf)->Arg(64)->Arg(1024)->Arg(16384);
BENCHMARK(delimited_blank_line)->Arg(64)->Arg(1024)->Arg(16384);
BENCHMARK(any_length_4)->Arg(64);
BENCHMARK(any_lines)->Arg(64);

/// The whole way through Framed: one call to the transport and one to the protocol for each message.
void framed_length_4(benchmark::State& state) {
    struct Counter final : Framed<LengthPrefixed> {
        std::size_t messages = 0;
        void message(Bytes) override { ++messages; }
    } protocol;
    const std::string input = stream(LengthPrefixed(4), std::size_t(state.range(0)));
    testing::MemoryTransport connection(protocol);
    Protocol& received = protocol;
    for (auto unused : state) benchmark::DoNotOptimize(received.received(bytes_of(input)));
    state.SetBytesProcessed(std::int64_t(state.iterations()) * std::int64_t(input.size()));
    state.SetItemsProcessed(std::int64_t(protocol.messages));
}
BENCHMARK(framed_length_4)->Arg(64);

// ── the yardsticks ──

void copy(benchmark::State& state) {
    const std::string input(stream_size, 'x');
    std::string output(stream_size, ' ');
    for (auto unused : state) {
        std::memcpy(output.data(), input.data(), input.size());
        benchmark::ClobberMemory();
    }
    state.SetBytesProcessed(std::int64_t(state.iterations()) * std::int64_t(input.size()));
}
BENCHMARK(copy)->Name("memcpy");

/// memchr from one end of a line to the next: the cost of the search alone.
void find(benchmark::State& state) {
    const std::string input = stream(Delimited("\n"), std::size_t(state.range(0)));
    for (auto unused : state) {
        const char* at = input.data();
        const char* const end = at + input.size();
        while (at != end) {
            at = static_cast<const char*>(std::memchr(at, '\n', std::size_t(end - at))) + 1;
            benchmark::DoNotOptimize(at);
        }
    }
    state.SetBytesProcessed(std::int64_t(state.iterations()) * std::int64_t(input.size()));
}
BENCHMARK(find)->Name("memchr")->Arg(64)->Arg(1024)->Arg(16384);

}  // namespace
