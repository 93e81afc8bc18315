// Against Python's http.server, whose port with_server.py gives in EMBEDDING_PORT.
#include "driven.hpp"

#include <reactor/adapters/curl.hpp>

#include <reactor/net/socket.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

struct Transfer {
    explicit Transfer(const std::string& url) : easy(curl_easy_init()) {
        curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
        curl_easy_setopt(easy, CURLOPT_PRIVATE, this);
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Transfer::write);
    }
    ~Transfer() { curl_easy_cleanup(easy); }
    Transfer(const Transfer&) = delete;
    static std::size_t write(char* data, std::size_t size, std::size_t count, void* body) {
        static_cast<std::string*>(body)->append(data, size * count);
        return size * count;
    }
    long information(CURLINFO what) const {
        long value = -1;
        curl_easy_getinfo(easy, what, &value);
        return value;
    }
    CURL* easy;
    std::string body;
    CURLcode result = CURL_LAST;
};

struct Loop {
    void run(std::vector<Transfer*> transfers) {
        left = transfers.size();
        for (Transfer* transfer : transfers) multi.add(transfer->easy);
        run_until(reactor, [&] { return left == 0; });
    }
    Reactor reactor;
    std::size_t left = 0;
    CurlMulti multi{reactor, [this](CURL* easy, CURLcode result) {
                        Transfer* transfer = nullptr;
                        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
                        transfer->result = result;
                        --left;
                    }};
};

std::string url(const std::string& path) {
    const char* port = std::getenv("EMBEDDING_PORT");
    REQUIRE(port != nullptr);
    return std::string("http://127.0.0.1:") + port + path;
}

}  // namespace

TEST_CASE("curl: the second transfer goes over the connection that the first one left open") {
    Loop loop;
    Transfer first(url("/hello")), second(url("/hello"));
    loop.run({&first});
    CHECK(first.result == CURLE_OK);
    CHECK(first.body == "hello from /hello\n");
    CHECK(first.information(CURLINFO_NUM_CONNECTS) == 1);
    loop.run({&second});
    CHECK(second.body == "hello from /hello\n");
    CHECK(second.information(CURLINFO_NUM_CONNECTS) == 0);
}

TEST_CASE("curl: redirects are followed") {
    Loop loop;
    Transfer transfer(url("/redirect"));
    loop.run({&transfer});
    CHECK(transfer.body == "hello from /hello\n");
    CHECK(transfer.information(CURLINFO_REDIRECT_COUNT) == 1);
}

TEST_CASE("curl: a large body comes whole") {
    Loop loop;
    Transfer transfer(url("/large"));
    loop.run({&transfer});
    CHECK(transfer.result == CURLE_OK);
    CHECK(transfer.body.size() == 3'000'000);
}

TEST_CASE("curl: a refused connection is an error of that transfer alone") {
    Socket taken = Socket::open(Address::Family::ipv4);  // bound and not listening: connecting to it is refused
    taken.bind(*Address::ip("127.0.0.1", 0));
    Loop loop;
    Transfer refused("http://" + taken.local().to_string() + "/"), good(url("/hello"));
    loop.run({&refused, &good});
    CHECK(refused.result == CURLE_COULDNT_CONNECT);
    CHECK(good.result == CURLE_OK);
}

TEST_CASE("curl: many transfers run side by side, and again as soon as one has ended") {
    Loop loop;
    std::vector<std::unique_ptr<Transfer>> transfers;
    std::vector<Transfer*> all;
    for (int i = 0; i < 50; ++i) {
        transfers.push_back(std::make_unique<Transfer>(url("/number/" + std::to_string(i))));
        all.push_back(transfers.back().get());
    }
    for (int round = 1; round <= 2; ++round) {
        loop.run(all);
        for (int i = 0; i < 50; ++i) {
            CHECK(all[std::size_t(i)]->result == CURLE_OK);
            CHECK(all[std::size_t(i)]->body == "hello from /number/" + std::to_string(i) + "\n");
            all[std::size_t(i)]->body.clear();
        }
    }
    // A loop that spins would take thousands of turns for each.
    CHECK(loop.reactor.counters().turns < 20'000);
}

TEST_CASE("curl: a transfer that is given up while it runs leaves nothing that is watched") {
    Loop loop;
    Transfer transfer(url("/large"));
    loop.multi.add(transfer.easy);
    run_until(loop.reactor, [&] { return !transfer.body.empty(); });
    loop.multi.remove(transfer.easy);
    loop.left = 1;
    loop.reactor.run_once(Duration::zero());
    loop.reactor.run_once(Duration::zero());
    CHECK(loop.left == 1);
}

TEST_CASE("curl: a request over a connection that is open takes a few iterations and no timer") {
    Loop loop;
    Transfer transfer(url("/hello"));
    loop.run({&transfer});
    constexpr int requests = 100;
    const Cost cost = cost_of(loop.reactor, "libcurl: a GET over an open connection", requests, [&] {
        for (int i = 0; i < requests; ++i) loop.run({&transfer});
    });
    CHECK(transfer.information(CURLINFO_NUM_CONNECTS) == 0);
    CHECK(cost.iterations <= (nested() ? 6 : 4));  // one that begins it, one with the answer; a head may come alone
    CHECK(cost.timers <= 0.1);
}
