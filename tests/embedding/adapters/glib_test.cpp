#include <reactor/adapters/glib.hpp>

#include <protocols/echo.hpp>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/timer.hpp>

#include <doctest/doctest.h>

#include <string>
#include <thread>

using namespace reactor;
using namespace reactor::adapters;
using namespace std::chrono_literals;

namespace {

class Asker final : public Framed<Lines> {
public:
    explicit Asker(std::string& answer) : answer_(answer) {}

private:
    void connected() override { send("through GLib"); }
    void message(Bytes line) override {
        answer_ = text_of(line);
        transport().close();
    }
    std::string& answer_;
};

// GLib's loop, turned until something holds. Each turn may wait: a missing wake-up makes the test fail.
template <class Condition>
int iterate_until(Condition condition) {
    int turns = 0;
    bool too_long = false;
    const guint alarm = g_timeout_add_seconds(
        60,
        [](gpointer flag) -> gboolean {
            *static_cast<bool*>(flag) = true;
            return G_SOURCE_CONTINUE;
        },
        &too_long);
    while (!condition() && !too_long && turns < 10000) {
        g_main_context_iteration(nullptr, TRUE);
        ++turns;
    }
    g_source_remove(alarm);
    REQUIRE(condition());
    return turns;
}

}  // namespace

TEST_CASE("A server and a client run inside GLib's main loop") {
    Reactor reactor;
    const GlibSource source(reactor);
    const Acceptor acceptor(reactor, "localhost", 0, factory<Echo>());
    std::string answer;
    const Connector connector(reactor, "localhost", acceptor.addresses().front().port(),
                              factory<Asker>(std::ref(answer)));
    iterate_until([&] { return answer == "through GLib" && acceptor.connections() == 0; });
}

TEST_CASE("Timers of the reactor's and work posted from another thread wake GLib's main loop") {
    Reactor reactor;
    const GlibSource source(reactor);
    bool due = false;
    Timer timer(reactor, [&] { due = true; });
    timer.start(3ms);
    CHECK(iterate_until([&] { return due; }) < 20);  // it waited for the time, and did not spin
    bool posted = false;
    std::thread thread([&] { reactor.post([&] { posted = true; }); });
    CHECK(iterate_until([&] { return posted; }) < 20);
    thread.join();
}

TEST_CASE("What GLib's own sources ask of the reactor in between is done without being asked for again") {
    Reactor reactor;
    const GlibSource source(reactor);
    bool due = false;
    Timer timer(reactor, [&] { due = true; });
    g_idle_add(
        [](gpointer data) -> gboolean {
            static_cast<Timer*>(data)->start(std::chrono::milliseconds(1));
            return FALSE;
        },
        &timer);
    iterate_until([&] { return due; });
}
