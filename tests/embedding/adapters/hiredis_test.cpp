// Against a redis-server of with_server.py's, on the Unix socket that EMBEDDING_SOCKET names.
#include "driven.hpp"

#include <reactor/adapters/hiredis.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

class Client {
public:
    explicit Client(Reactor& reactor) : reactor_(reactor) {
        const char* path = std::getenv("EMBEDDING_SOCKET");
        REQUIRE(path != nullptr);
        context_ = redisAsyncConnectUnix(path);
        REQUIRE(context_ != nullptr);
        REQUIRE(context_->err == 0);
        context_->data = this;
        HiredisAdapter::attach(reactor, *context_);
        redisAsyncSetDisconnectCallback(context_, [](const redisAsyncContext* context, int) {
            static_cast<Client*>(context->data)->context_ = nullptr;
        });
    }
    ~Client() {
        if (context_ != nullptr) redisAsyncFree(context_);
    }

    using Reply = std::function<void(const redisReply*)>;
    // Called for each reply, as long as there is one: for a subscription that is many.
    void command(std::vector<std::string> words, Reply reply) {
        std::vector<const char*> pointers;
        std::vector<std::size_t> sizes;
        for (const std::string& word : words) {
            pointers.push_back(word.data());
            sizes.push_back(word.size());
        }
        replies_.push_back(std::make_unique<Reply>(std::move(reply)));
        redisAsyncCommandArgv(
            context_,
            [](redisAsyncContext*, void* value, void* callback) {
                if (value != nullptr) (*static_cast<Reply*>(callback))(static_cast<const redisReply*>(value));
            },
            replies_.back().get(), int(words.size()), pointers.data(), sizes.data());
    }
    void disconnect() { redisAsyncDisconnect(context_); }
    bool over() const { return context_ == nullptr; }

    void run_until(const std::function<bool()>& condition) { ::run_until(reactor_, condition); }

private:
    Reactor& reactor_;
    redisAsyncContext* context_;
    std::vector<std::unique_ptr<Reply>> replies_;
};

}  // namespace

TEST_CASE("hiredis: a pipeline of commands is answered in order") {
    Reactor reactor;
    Client client(reactor);
    std::vector<long long> answers;
    client.command({"DEL", "number"}, [](const redisReply*) {});
    for (int i = 0; i < 10'000; ++i)
        client.command({"INCR", "number"}, [&](const redisReply* reply) { answers.push_back(reply->integer); });
    client.run_until([&] { return answers.size() == 10'000; });
    for (std::size_t i = 0; i < answers.size(); ++i) REQUIRE(answers[i] == static_cast<long long>(i + 1));
}

TEST_CASE("hiredis: wanting to write for each command and not wanting to any more costs no system call") {
    Reactor reactor;
    Client client(reactor);
    int left = 1000;
    std::uint64_t before = 0;
    std::function<void(const redisReply*)> next = [&](const redisReply* reply) {
        REQUIRE(std::string(reply->str, reply->len) == "PONG");
        if (before == 0) before = reactor.counters().changes;
        if (--left > 0) client.command({"PING"}, next);
    };
    client.command({"PING"}, next);
    client.run_until([&] { return left == 0; });
    CHECK(reactor.counters().changes == before);
}

TEST_CASE("hiredis: what one publishes the other receives") {
    Reactor reactor;
    Client subscriber(reactor), publisher(reactor);
    std::vector<std::string> messages;
    bool subscribed = false;
    subscriber.command({"SUBSCRIBE", "news"}, [&](const redisReply* reply) {
        if (reply->elements != 3) return;
        if (std::string(reply->element[0]->str) == "subscribe") subscribed = true;
        if (std::string(reply->element[0]->str) == "message") messages.emplace_back(reply->element[2]->str);
    });
    subscriber.run_until([&] { return subscribed; });
    for (const char* text : {"one", "two", "three"})
        publisher.command({"PUBLISH", "news", text}, [](const redisReply*) {});
    publisher.run_until([&] { return messages.size() == 3; });
    CHECK(messages == std::vector<std::string>{"one", "two", "three"});
}

TEST_CASE("hiredis: a message larger than the socket's buffers goes out as there is room") {
    Reactor reactor;
    Client client(reactor);
    const std::string large(20'000'000, 'x');
    bool stored = false;
    long long size = 0;
    client.command({"SET", "large", large}, [&](const redisReply*) { stored = true; });
    client.command({"STRLEN", "large"}, [&](const redisReply* reply) { size = reply->integer; });
    client.run_until([&] { return size != 0; });
    CHECK(stored);
    CHECK(size == static_cast<long long>(large.size()));
}

TEST_CASE("hiredis: a disconnect waits for the answers and takes the adapter with it") {
    Reactor reactor;
    Client client(reactor);
    bool answered = false;
    client.command({"PING"}, [&](const redisReply*) { answered = true; });
    client.disconnect();
    client.run_until([&] { return client.over(); });
    CHECK(answered);
}

TEST_CASE("hiredis: a command costs one iteration") {
    Reactor reactor;
    Client client(reactor);
    int left = 1001;
    std::function<void(const redisReply*)> next = [&](const redisReply*) {
        if (--left > 0) client.command({"PING"}, next);
    };
    client.command({"PING"}, next);
    client.run_until([&] { return left <= 1000; });
    const Cost cost =
        cost_of(reactor, "hiredis: PING after PING", 1000, [&] { client.run_until([&] { return left == 0; }); });
    CHECK(cost.iterations <= (nested() ? 2.1 : 1.5));
    CHECK(cost.changes == 0);
}
