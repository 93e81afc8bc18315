#include "inside.hpp"

#include <reactor/adapters/inside_qt.hpp>

#include <QCoreApplication>

using namespace reactor;
using namespace reactor::adapters;

TEST_CASE("Inside Qt's event loop a reactor does all that it does alone") {
    {
        Reactor reactor;
        CHECK_THROWS_AS((void)QtDriver(reactor), std::logic_error);  // before there is an application
    }
    int count = 1;
    char name[] = "inside_qt_test", *words[] = {name, nullptr};
    const QCoreApplication application(count, words);
    Reactor reactor;
    const auto iterate = [] { QCoreApplication::processEvents(QEventLoop::WaitForMoreEvents); };
    check_destroyed_inside(
        reactor, [&] { return std::make_unique<QtDriver>(reactor); }, iterate);
    const QtDriver driver(reactor);
    check_inside("Qt", {iterate, [](std::function<void()> call) { QTimer::singleShot(0, std::move(call)); },
                        [&]() -> Reactor& { return reactor; }});
}
