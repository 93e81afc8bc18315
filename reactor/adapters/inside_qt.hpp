// A reactor inside Qt's event loop (Qt 5 and 6), and so inside programs with widgets.
#pragma once

#include <reactor/adapters/inner_loop.hpp>

#include <QAbstractEventDispatcher>
#include <QSocketNotifier>
#include <QTimer>

#include <memory>
#include <stdexcept>

namespace reactor::adapters {

/// Runs a reactor in the event loop of this thread until it is destroyed. Thread: the one that runs the event loop; it
/// is the reactor's thread. Errors: the constructor throws std::logic_error if the thread has no event dispatcher (make
/// the QCoreApplication first). Qt does not support exceptions through its event loop: set Reactor::on_exception.
/// Lifetime: must go before the reactor and the application; a call of the reactor's may destroy it. Source:
/// QAbstractEventDispatcher::aboutToBlock, QSocketNotifier in Qt's reference.
class [[nodiscard]] QtDriver {
public:
    [[nodiscard]] explicit QtDriver(Reactor& inner) : inner_(inner) {
        QAbstractEventDispatcher* const dispatcher = QAbstractEventDispatcher::instance();
        if (dispatcher == nullptr) throw std::logic_error("QtDriver: this thread has no event dispatcher");
        timer_.setTimerType(Qt::PreciseTimer);  // a coarse one may be early by a twentieth
        timer_.setSingleShot(true);
        QObject::connect(&timer_, &QTimer::timeout, &timer_, [this] { run(); });
        QObject::connect(dispatcher, &QAbstractEventDispatcher::aboutToBlock, &timer_, [this] { plan(); });
        watch();
        plan();
    }
    QtDriver(const QtDriver&) = delete;
    QtDriver& operator=(const QtDriver&) = delete;

private:
    void watch() {
        if (descriptor_ == inner_.descriptor()) return;
        input_.reset();
        descriptor_ = inner_.descriptor();
        if (descriptor_ < 0) return;
        input_ = std::make_unique<QSocketNotifier>(descriptor_, QSocketNotifier::Read);
        QObject::connect(input_.get(), &QSocketNotifier::activated, input_.get(), [this] { run(); });
    }

    void plan() {
        const int sleep = inner_.longest_sleep_milliseconds();
        sleep < 0 ? timer_.stop() : timer_.start(sleep);
    }

    void run() {
        if (!inner_.run()) return;
        watch();
        plan();
    }

    InnerLoop inner_;
    QTimer timer_;
    std::unique_ptr<QSocketNotifier> input_;
    int descriptor_ = -1;
};

}  // namespace reactor::adapters
