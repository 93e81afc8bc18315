// A coroutine over the TLS transport, in memory.
#include "pair.hpp"

#include <protocols/framing/delimited.hpp>
#include <reactor/coroutine/stream.hpp>

#include <memory>
#include <string_view>

using namespace reactor;

static Task<> answer_lines(Stream stream) {
    while (auto line = co_await stream.read<Lines>()) co_await stream.write("answer to ", *line, "\n");
    co_await stream.write("bye");
}

TEST_CASE("A coroutine serves a connection over TLS as over any transport, and its frame goes with it") {
    const std::size_t frames = coroutine_frames().alive();
    {
        Journal of_client;
        testing::MemoryTransport server(tls(TlsContext(server_options()), coroutine(answer_lines)()));
        testing::MemoryTransport client(
            tls(TlsContext(client_options()), "localhost", std::make_unique<Recorder>(of_client)));
        testing::converse(server, client);
        for (const char* const piece : {"one\ntw", "o\n"}) {
            of_client.transport->write(std::string_view(piece));
            testing::converse(server, client);
        }
        CHECK(of_client.input == "answer to one\nanswer to two\n");
        CHECK(coroutine_frames().alive() == frames + 1);
        of_client.transport->shutdown_write();
        testing::converse(server, client);
        CHECK(of_client.input == "answer to one\nanswer to two\nbye");
        CHECK(coroutine_frames().alive() == frames);
        CHECK(of_client.over);
        CHECK_FALSE(of_client.reason);
    }
    { testing::MemoryTransport server(tls(TlsContext(server_options()), coroutine(answer_lines)())); }
    CHECK(coroutine_frames().alive() == frames);  // also if it never began
}
