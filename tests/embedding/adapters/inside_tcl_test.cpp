#include "inside.hpp"

#include <reactor/adapters/inside_tcl.hpp>

using namespace reactor;
using namespace reactor::adapters;

TEST_CASE("Inside Tcl's event loop a reactor does all that it does alone") {
    Tcl_FindExecutable("");
    {
        Reactor reactor;
        check_destroyed_inside(
            reactor, [&] { return std::make_unique<TclSource>(reactor); }, [] { Tcl_DoOneEvent(TCL_ALL_EVENTS); });
        const TclSource source(reactor);
        check_inside("Tcl", {[] { Tcl_DoOneEvent(TCL_ALL_EVENTS); },
                             [](std::function<void()> call) {
                                 Tcl_CreateTimerHandler(
                                     1,
                                     [](ClientData it) {
                                         auto* const kept = static_cast<std::function<void()>*>(it);
                                         (*kept)();
                                         delete kept;
                                     },
                                     new std::function<void()>(std::move(call)));
                             },
                             [&]() -> Reactor& { return reactor; }});
    }
    CHECK(Tcl_DoOneEvent(TCL_ALL_EVENTS | TCL_DONT_WAIT) == 0);
}
