// A reactor inside sd-event, libsystemd's loop. For the reverse see sd_event.hpp.
#pragma once

#include <reactor/adapters/inner_loop.hpp>

#include <sys/epoll.h>
#include <systemd/sd-event.h>
#include <time.h>

#include <chrono>
#include <cstdint>
#include <system_error>

namespace reactor::adapters {

/// Runs a reactor in a loop of libsystemd until it is destroyed. Thread: the one that runs the loop; it is the
/// reactor's thread. Errors: the constructor throws std::system_error. An exception must not pass through libsystemd,
/// which is C: set Reactor::on_exception. Lifetime: must go before the reactor; a call of the reactor's may
/// destroy it. Source: sd_event_add_time(3), sd_event_source_set_prepare(3).
class [[nodiscard]] SdEventSource {
public:
    [[nodiscard]] SdEventSource(Reactor& inner, sd_event* event) : inner_(inner), event_(event) {
        // libsystemd delays timers by up to 250 ms unless it is asked for accuracy: 1 microsecond.
        check(sd_event_add_time(event_, &time_, CLOCK_MONOTONIC, UINT64_MAX, 1, &SdEventSource::due, this));
        check(sd_event_source_set_enabled(time_, SD_EVENT_ON));  // only sources that are on are prepared
        check(sd_event_source_set_prepare(time_, &SdEventSource::prepare));
        watch();
    }
    ~SdEventSource() {
        sd_event_source_disable_unref(input_);
        sd_event_source_disable_unref(time_);
    }
    SdEventSource(const SdEventSource&) = delete;
    SdEventSource& operator=(const SdEventSource&) = delete;

private:
    static void check(int result) {
        if (result < 0) throw std::system_error(-result, std::generic_category(), "sd-event");
    }

    void watch() {
        if (input_ != nullptr && descriptor_ == inner_.descriptor()) return;
        input_ = sd_event_source_disable_unref(input_);
        descriptor_ = inner_.descriptor();
        if (descriptor_ >= 0)
            check(sd_event_add_io(event_, &input_, descriptor_, EPOLLIN, &SdEventSource::ready, this));
    }

    static int prepare(sd_event_source* source, void* self) {
        const auto sleep = static_cast<SdEventSource*>(self)->inner_.longest_sleep();
        if (!sleep) return sd_event_source_set_time(source, UINT64_MAX);
        timespec now{};
        ::clock_gettime(CLOCK_MONOTONIC, &now);  // sd_event_now is the time of the last wake-up
        const auto at = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec) + *sleep;
        return sd_event_source_set_time(source,
                                        std::uint64_t(std::chrono::ceil<std::chrono::microseconds>(at).count()));
    }

    static int due(sd_event_source*, std::uint64_t, void* self) { return static_cast<SdEventSource*>(self)->run(); }
    static int ready(sd_event_source*, int, std::uint32_t, void* self) {
        return static_cast<SdEventSource*>(self)->run();
    }

    int run() {
        if (inner_.run()) watch();
        return 0;
    }

    InnerLoop inner_;
    sd_event* event_;
    sd_event_source* time_ = nullptr;
    sd_event_source* input_ = nullptr;
    int descriptor_ = -1;
};

}  // namespace reactor::adapters
