// A reactor inside libuv's loop, and so inside Node.js and other programs on libuv.
#pragma once

#include <reactor/adapters/inner_loop.hpp>

#include <uv.h>

#include <cstdint>
#include <system_error>

namespace reactor::adapters {

/// Runs a reactor in a loop of libuv until it is destroyed. uv_run does not end by itself meanwhile. Thread: the one
/// that runs the loop; it is the reactor's thread. Errors: the constructor throws std::system_error. An exception must
/// not pass through libuv, which is C: set Reactor::on_exception. Lifetime: must go before the reactor; a call of the
/// reactor's may destroy it. libuv frees its handles in the next iteration: run it once more before uv_loop_close.
/// Source: uv_poll_t, uv_prepare_t in libuv's manual.
class [[nodiscard]] UvDriver {
public:
    [[nodiscard]] UvDriver(Reactor& inner, uv_loop_t* loop) : state_(new State{InnerLoop(inner), loop}) {
        uv_timer_init(loop, &state_->timer);
        uv_prepare_init(loop, &state_->prepare);
        state_->timer.data = state_->prepare.data = state_;
        uv_prepare_start(&state_->prepare, [](uv_prepare_t* prepare) { of(prepare).plan(); });
        state_->watch();
    }
    ~UvDriver() {
        state_->over = true;
        if (state_->poll != nullptr) close(state_->poll);
        // Both in one iteration: the one that libuv lets go of last frees the state.
        const auto closed = [](uv_handle_t* handle) {
            if (--of(handle).handles == 0) delete &of(handle);
        };
        uv_close(reinterpret_cast<uv_handle_t*>(&state_->timer), closed);
        uv_close(reinterpret_cast<uv_handle_t*>(&state_->prepare), closed);
    }
    UvDriver(const UvDriver&) = delete;
    UvDriver& operator=(const UvDriver&) = delete;

private:
    struct State {
        void watch() {
            if (over || descriptor == inner.descriptor()) return;
            if (poll != nullptr) close(poll);
            descriptor = inner.descriptor();
            poll = descriptor < 0 ? nullptr : new uv_poll_t;
            if (poll == nullptr) return;
            const int status = uv_poll_init(loop, poll, descriptor);
            if (status < 0) throw std::system_error(-status, std::generic_category(), "uv_poll_init");
            poll->data = this;
            uv_poll_start(poll, UV_READABLE, [](uv_poll_t* ready, int, int) { of(ready).run(); });
        }
        void plan() {
            if (over) return;  // so may be the reactor
            const int sleep = inner.longest_sleep_milliseconds();
            if (sleep < 0) return void(uv_timer_stop(&timer));
            uv_update_time(loop);  // libuv's clock stands still during an iteration
            uv_timer_start(
                &timer, [](uv_timer_t* due) { of(due).run(); }, std::uint64_t(sleep), 0);
        }
        void run() {
            inner.run();
            watch();
        }

        InnerLoop inner;
        uv_loop_t* loop;
        uv_timer_t timer{};
        uv_prepare_t prepare{};
        uv_poll_t* poll = nullptr;
        int descriptor = -1;
        int handles = 2;  // not yet closed: timer and prepare
        bool over = false;
    };

    template <class Handle>
    static State& of(Handle* handle) {
        return *static_cast<State*>(handle->data);
    }
    static void close(uv_poll_t* poll) {
        uv_close(reinterpret_cast<uv_handle_t*>(poll),
                 [](uv_handle_t* it) { delete reinterpret_cast<uv_poll_t*>(it); });
    }

    State* state_;
};

}  // namespace reactor::adapters
