// Any allocation may fail, of this library's and of OpenSSL's: a connection then ends with an error, both of its
// protocols are called in order to the end, and nothing is leaked or left in OpenSSL's error queue.
#include "pair.hpp"

#include <openssl/crypto.h>
#include <openssl/err.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <string>

using namespace reactor;

namespace {

long live = 0;
long until_failure = -1;  // allocations before the one that fails; negative: none does
bool struck = false;

void* allocate(std::size_t size) noexcept {
    if (until_failure == 0) {
        until_failure = -1;
        struck = true;
        return nullptr;
    }
    if (until_failure > 0) --until_failure;
    void* const memory = std::malloc(size > 0 ? size : 1);
    if (memory != nullptr) ++live;
    return memory;
}

void release(void* memory) noexcept {
    if (memory == nullptr) return;
    --live;
    std::free(memory);
}

void* openssl_allocate(std::size_t size, const char*, int) {
    return allocate(size);
}
void* openssl_resize(void* memory, std::size_t size, const char*, int) {
    if (memory == nullptr) return allocate(size);
    if (size == 0) return release(memory), nullptr;
    if (until_failure == 0) {
        until_failure = -1;
        struck = true;
        return nullptr;
    }
    if (until_failure > 0) --until_failure;
    return std::realloc(memory, size);
}
void openssl_release(void* memory, const char*, int) {
    release(memory);
}

// Before main: OpenSSL takes them only before its first allocation.
const bool counted = CRYPTO_set_mem_functions(&openssl_allocate, &openssl_resize, &openssl_release) == 1;

// A question, an answer and an end in order, unless something fails.
struct Run {
    bool answered = false;
    bool in_order = true;  // both sides' calls
    long leaked = 0;
    unsigned long error_left = 0;
    std::string_view error_file = {};
    int error_line = 0;
};

bool in_order(const Journal& journal) {
    const auto& calls = journal.calls;
    return calls.empty() || (journal.count("connected") <= 1 && journal.count("disconnected") <= 1 &&
                             (journal.count("disconnected") == 0 || calls.back() == "disconnected"));
}

Run run(const TlsContext& server, const TlsContext& client, long fails) {
    Run result;
    OPENSSL_thread_stop();  // frees the memory that OpenSSL keeps for the thread: its error queue, its random numbers
    const long before = live;
    {
        Journal of_server, of_client;
        const auto write = [](Journal& journal, std::string_view text) {
            if (journal.transport != nullptr) journal.transport->write(text);
        };
        of_client.on_connected = [&] { write(of_client, "question"); };
        of_server.on_received = [&](Bytes input) {
            write(of_server, "answer");
            return input.size();
        };
        struck = false;
        until_failure = fails;
        std::optional<testing::MemoryTransport> one, other;
        try {
            one.emplace(tls(server, std::make_unique<Recorder>(of_server)));
            other.emplace(tls(client, "localhost", std::make_unique<Recorder>(of_client)));
            converse(*one, *other);
            result.answered = of_client.input == "answer";
            if (of_client.transport != nullptr) of_client.transport->close();
            other->settle();
            converse(*one, *other);
        } catch (const std::exception&) {  // it goes on to the loop's hook, in a program
        }
        until_failure = -1;
        result.in_order = in_order(of_server) && in_order(of_client);
    }
    const char* file = "";
    result.error_left = ERR_get_error_all(&file, &result.error_line, nullptr, nullptr, nullptr);
    result.error_file = file;
    OPENSSL_thread_stop();
    result.leaked = live - before;
    return result;
}

}  // namespace

void* operator new(std::size_t size) {
    if (void* const memory = allocate(size)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
    release(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    release(memory);
}

TEST_CASE("Any allocation of a TLS connection fails, and it ends without a leak") {
    REQUIRE(counted);
    TlsClientOptions forgetful = client_options();
    forgetful.resumable_hosts = 0;  // sessions that are kept would be counted as leaks
    const TlsContext server(server_options()), client(forgetful);
    CHECK(run(server, client, -1).answered);
    CHECK(run(server, client, -1).leaked == 0);
    long failures = 0;
    for (long fails = 0; fails < 100'000; ++fails) {
        const Run result = run(server, client, fails);
        if (!struck) break;
        ++failures;
        if (!result.in_order || result.leaked != 0)
            FAIL_CHECK("allocation ", fails, ": ", result.leaked, " leaked, in order: ", result.in_order);
        if (result.error_left != 0)
            FAIL_CHECK("allocation ", fails, ": an error is left: ", ERR_error_string(result.error_left, nullptr), ", ",
                       result.error_file, ":", result.error_line);
    }
    MESSAGE(failures, " allocations");
    CHECK(failures > 300);
    CHECK(run(server, client, -1).answered);
}

namespace {

// Begins in the clear; a line makes both sides start TLS.
class Starting final : public Protocol {
public:
    Starting(const TlsContext& context, bool server, std::string& seen)
        : context_(context), server_(server), seen_(seen) {}

private:
    void connected() override {
        if (!server_) transport().write("go\n");
    }
    std::size_t received(Bytes input) override {
        if (std::exchange(secure_, true)) {
            seen_ += text_of(input);
            return input.size();
        }
        if (server_) transport().write("go\n");
        server_ ? start_tls(transport(), context_) : start_tls(transport(), context_, "localhost");
        if (!server_) transport().write("question");
        return 3;
    }
    void disconnected(std::error_code) override { seen_ += "|"; }

    const TlsContext& context_;
    const bool server_;
    bool secure_ = false;
    std::string& seen_;
};

}  // namespace

TEST_CASE("Any allocation fails where a connection turns into TLS, and it ends without a leak") {
    TlsClientOptions forgetful = client_options();
    forgetful.resumable_hosts = 0;
    const TlsContext server(server_options()), client(forgetful);
    long leaked = 0;
    const auto turn = [&](long fails) {
        OPENSSL_thread_stop();
        const long before = live;
        std::string seen_by_server, seen_by_client;
        seen_by_server.reserve(100);
        seen_by_client.reserve(100);
        {
            std::optional<testing::MemoryTransport> one, other;
            one.emplace(std::make_unique<Starting>(server, true, seen_by_server));
            other.emplace(std::make_unique<Starting>(client, false, seen_by_client));
            struck = false;
            until_failure = fails;
            try {
                converse(*one, *other);
            } catch (const std::exception&) {
            }
            until_failure = -1;
            one->end();
            other->end();
            for (testing::MemoryTransport* const side : {&*one, &*other}) side->advance(std::chrono::seconds(20));
            CHECK(one->disconnected());
            CHECK(other->disconnected());
        }
        CHECK(ERR_peek_error() == 0);
        CHECK(seen_by_server.ends_with("|"));
        const bool answered = seen_by_server == "question|";
        std::string().swap(seen_by_server);
        std::string().swap(seen_by_client);
        OPENSSL_thread_stop();
        leaked = live - before;
        return answered;
    };
    CHECK(turn(-1));  // some memory is kept from the first time on
    for (long fails = 0; fails < 60; ++fails) {
        CAPTURE(fails);
        turn(fails);
        CHECK(struck);
        CHECK(leaked == 0);
    }
    CHECK(turn(-1));
}
