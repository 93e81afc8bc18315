#include "inside.hpp"

#include <reactor/adapters/inside_asio.hpp>

#include <memory>
#include <optional>
#include <stdexcept>

using namespace reactor;
using namespace reactor::adapters;

TEST_CASE("Inside Asio's io_context a reactor does all that it does alone") {
    asio::io_context context(1);
    Reactor reactor;
    auto driver = std::make_unique<AsioDriver>(reactor, context);
    check_inside("Asio",
                 {[&] { context.run_one(); }, [&](std::function<void()> call) { asio::post(context, std::move(call)); },
                  [&]() -> Reactor& { return driver->reactor(); }});
    const Timer timer = driver->reactor().after(Duration::zero(), [&] { driver.reset(); });  // in its own call
    while (driver != nullptr) context.run_one();
    context.restart();
    context.run();  // ends: nothing is left
}

TEST_CASE("Inside Asio: an exception of the reactor's leaves run(), which may be run again") {
    asio::io_context context(1);
    Reactor reactor;
    AsioDriver driver(reactor, context);
    bool due = false;
    const Timer bad = driver.reactor().after(Duration::zero(), [] { throw std::runtime_error("a callback"); });
    const Timer good = driver.reactor().after(std::chrono::milliseconds(2), [&] {
        due = true;
        context.stop();
    });
    CHECK_THROWS_AS(context.run(), std::runtime_error);
    context.run();
    CHECK(due);
}
