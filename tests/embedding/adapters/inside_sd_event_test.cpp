#include "inside.hpp"

#include <reactor/adapters/inside_sd_event.hpp>

using namespace reactor;
using namespace reactor::adapters;

TEST_CASE("Inside sd-event a reactor does all that it does alone") {
    sd_event* event = nullptr;
    REQUIRE(sd_event_new(&event) >= 0);
    {
        Reactor reactor;
        check_destroyed_inside(
            reactor, [&] { return std::make_unique<SdEventSource>(reactor, event); },
            [&] { sd_event_run(event, 60'000'000); });
        const SdEventSource source(reactor, event);
        check_inside("sd-event", {[&] { sd_event_run(event, 60'000'000); },
                                  [&](std::function<void()> call) {
                                      sd_event_add_defer(
                                          event, nullptr,
                                          [](sd_event_source* one, void* it) {
                                              auto* const kept = static_cast<std::function<void()>*>(it);
                                              (*kept)();
                                              delete kept;
                                              return sd_event_source_set_enabled(one, SD_EVENT_OFF);
                                          },
                                          new std::function<void()>(std::move(call)));
                                  },
                                  [&]() -> Reactor& { return reactor; }});
    }
    CHECK(sd_event_run(event, 0) == 0);  // nothing is left in it
    sd_event_unref(event);
}
