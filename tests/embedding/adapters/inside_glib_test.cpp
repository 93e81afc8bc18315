#include "inside.hpp"

#include <reactor/adapters/inside_glib.hpp>

#include <memory>

using namespace reactor;
using namespace reactor::adapters;

TEST_CASE("Inside GLib's main loop a reactor does all that it does alone") {
    Reactor reactor;
    const GlibSource source(reactor);
    const guint alarm = g_timeout_add_seconds(  // not so that it wakes up, but so that it ends
        60, [](gpointer) -> gboolean { std::abort(); }, nullptr);
    check_inside("GLib", {[] { g_main_context_iteration(nullptr, TRUE); },
                          [](std::function<void()> call) {
                              g_idle_add_full(
                                  G_PRIORITY_DEFAULT,
                                  [](gpointer it) -> gboolean {
                                      (*static_cast<std::function<void()>*>(it))();
                                      return G_SOURCE_REMOVE;
                                  },
                                  new std::function<void()>(std::move(call)),
                                  [](gpointer it) { delete static_cast<std::function<void()>*>(it); });
                          },
                          [&]() -> Reactor& { return reactor; }});
    g_source_remove(alarm);
}

TEST_CASE("Inside GLib: the source may go in a call of the reactor's") {
    Reactor reactor;
    check_destroyed_inside(
        reactor, [&] { return std::make_unique<GlibSource>(reactor); },
        [] { g_main_context_iteration(nullptr, TRUE); });
    CHECK_FALSE(g_main_context_iteration(nullptr, FALSE));
}
