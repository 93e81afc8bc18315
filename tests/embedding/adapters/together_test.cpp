// A program as a user would write it from the guide: libcurl, MariaDB and mosquitto on one reactor, inside GLib's main
// loop. It fetches pages, stores each of them in a table, publishes the number of bytes that the table holds, and ends
// when its own subscription has received that.
#include <reactor/adapters/curl.hpp>
#include <reactor/adapters/inside_glib.hpp>
#include <reactor/adapters/mariadb.hpp>
#include <reactor/adapters/mosquitto.hpp>

#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

using namespace reactor;
using namespace reactor::adapters;

namespace {

class Archive {
public:
    Archive() {
        mosquitto_message_callback_set(broker_.get(), [](mosquitto*, void* self, const mosquitto_message* message) {
            Archive& archive = *static_cast<Archive*>(self);
            archive.published_ =
                std::string(static_cast<const char*>(message->payload), std::size_t(message->payloadlen));
            g_main_loop_quit(archive.main_.get());
        });
        mosquitto_connect_callback_set(broker_.get(), [](mosquitto*, void* self, int) {
            Archive& archive = *static_cast<Archive*>(self);
            mosquitto_subscribe(archive.mqtt_.client(), nullptr, "archive", 0);
            archive.begin();
        });
        mosquitto_connect_async(mqtt_.client(), "127.0.0.1", std::atoi(std::getenv("EMBEDDING_BROKER")), 60);
    }

    std::string run() {
        const Timer limit = reactor_.after(std::chrono::seconds(60), [this] { g_main_loop_quit(main_.get()); });
        g_main_loop_run(main_.get());
        return published_;
    }

private:
    void begin() {
        database_.connect(nullptr, "root", "", nullptr, 0, std::getenv("EMBEDDING_SOCKET"), [this](bool good) {
            REQUIRE(good);
            query("CREATE OR REPLACE DATABASE archive", [this] {
                query("CREATE TABLE archive.pages (body TEXT)", [this] {
                    for (int i = 0; i < 3; ++i) fetch("/page/" + std::to_string(i));
                });
            });
        });
    }

    void fetch(const std::string& path) {
        CURL* const transfer = curl_easy_init();
        curl_easy_setopt(transfer, CURLOPT_URL,
                         ("http://127.0.0.1:" + std::string(std::getenv("EMBEDDING_PORT")) + path).c_str());
        curl_easy_setopt(transfer, CURLOPT_NOPROXY, "*");
        bodies_.push_back(std::make_unique<std::string>());
        curl_easy_setopt(transfer, CURLOPT_WRITEDATA, bodies_.back().get());
        curl_easy_setopt(transfer, CURLOPT_PRIVATE, bodies_.back().get());
        curl_easy_setopt(
            transfer, CURLOPT_WRITEFUNCTION, +[](char* data, std::size_t size, std::size_t count, void* body) {
                static_cast<std::string*>(body)->append(data, size * count);
                return size * count;
            });
        transfers_.add(transfer);
    }

    void fetched(CURL* transfer, CURLcode result) {
        REQUIRE(result == CURLE_OK);
        char* body = nullptr;
        curl_easy_getinfo(transfer, CURLINFO_PRIVATE, &body);
        waiting_.push_back(*reinterpret_cast<std::string*>(body));
        curl_easy_cleanup(transfer);
        store();
    }

    // One page at a time: a connection has one operation under way.
    void store() {
        if (storing_ || waiting_.empty()) return;
        storing_ = true;
        std::string text(2 * waiting_.back().size() + 1, '\0');
        text.resize(mysql_real_escape_string(database_.get(), text.data(), waiting_.back().data(),
                                             (unsigned long)(waiting_.back().size())));
        waiting_.pop_back();
        query("INSERT INTO archive.pages VALUES ('" + text + "')", [this] {
            storing_ = false;
            if (++stored_ < 3) return store();
            database_.query("SELECT SUM(LENGTH(body)) FROM archive.pages", [this](MariaDbConnection::Result result) {
                REQUIRE(result != nullptr);
                const std::string bytes = mysql_fetch_row(result.get())[0];
                mosquitto_publish(mqtt_.client(), nullptr, "archive", int(bytes.size()), bytes.data(), 0, false);
            });
        });
    }

    void query(std::string text, std::function<void()> then) {
        database_.query(std::move(text), [this, then = std::move(then)](MariaDbConnection::Result) {
            REQUIRE(mysql_errno(database_.get()) == 0);
            then();
        });
    }

    // Each goes before the one above it.
    std::unique_ptr<GMainLoop, decltype(&g_main_loop_unref)> main_{g_main_loop_new(nullptr, FALSE), &g_main_loop_unref};
    Reactor reactor_;
    GlibSource source_{reactor_};
    CurlMulti transfers_{reactor_, [this](CURL* transfer, CURLcode result) { fetched(transfer, result); }};
    MariaDbConnection database_{reactor_};
    std::unique_ptr<mosquitto, decltype(&mosquitto_destroy)> broker_{mosquitto_new(nullptr, true, this),
                                                                     &mosquitto_destroy};
    MosquittoDriver mqtt_{reactor_, broker_.get()};
    std::vector<std::unique_ptr<std::string>> bodies_;
    std::vector<std::string> waiting_;
    bool storing_ = false;
    int stored_ = 0;
    std::string published_;
};

}  // namespace

TEST_CASE("libcurl, MariaDB and mosquitto work on one reactor, inside GLib") {
    Archive archive;
    CHECK(archive.run() == std::to_string(3 * std::string("hello from /page/0\n").size()));
}
