// libcurl's multi interface driven by a reactor: libcurl says which sockets it waits for and how long, and gets their
// events. Any number of transfers at once, on the loop's thread.
//
//     Reactor reactor;
//     CurlMulti transfers(reactor, done);
//     transfers.add(easy_handle);
//     reactor.run();
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/timer.hpp>

#include <curl/curl.h>

#include <chrono>
#include <new>
#include <unordered_map>
#include <utility>

namespace reactor::adapters {

/// A multi handle on a loop. `done` is called for each transfer that has ended, when it is out of the multi handle: it
/// may be cleaned up, or added again. Thread: the loop's. Errors: the constructor throws std::bad_alloc; a transfer's
/// error arrives in `done`. Lifetime: must go before the reactor, and not in `done`; it ends no transfer with a call.
/// Source: libcurl-multi(3), CURLMOPT_SOCKETFUNCTION(3), CURLMOPT_TIMERFUNCTION(3).
class [[nodiscard]] CurlMulti {
public:
    using Done = MoveOnlyFunction<void(CURL*, CURLcode)>;

    [[nodiscard]] CurlMulti(Reactor& reactor, Done done)
        : reactor_(reactor),
          done_(std::move(done)),
          timer_(reactor, [this] { act(CURL_SOCKET_TIMEOUT, 0); }),
          multi_(curl_multi_init()) {
        if (multi_ == nullptr) throw std::bad_alloc();
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &CurlMulti::socket_changed);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &CurlMulti::timer_changed);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    }
    ~CurlMulti() { curl_multi_cleanup(multi_); }  // stops watching its sockets, by socket_changed
    CurlMulti(const CurlMulti&) = delete;
    CurlMulti& operator=(const CurlMulti&) = delete;

    /// Begins a transfer at the end of this iteration; the handle stays the caller's.
    CURLMcode add(CURL* transfer) { return curl_multi_add_handle(multi_, transfer); }
    /// Takes a transfer out, without a call of `done`.
    CURLMcode remove(CURL* transfer) { return curl_multi_remove_handle(multi_, transfer); }
    CURLM* handle() const noexcept { return multi_; }

private:
    // Called by libcurl in the middle of its work, so it must not be called back from here. It takes -1 for an error.
    static int socket_changed(CURL*, curl_socket_t socket, int what, void* self, void*) noexcept try {
        CurlMulti& multi = *static_cast<CurlMulti*>(self);
        if (what == CURL_POLL_REMOVE) return void(multi.watched_.erase(socket)), 0;
        const auto ready = [&multi, socket](Interest is) {
            multi.act(socket, flag_of(is, CURL_CSELECT_IN, CURL_CSELECT_OUT, CURL_CSELECT_ERR));
        };
        const Interest interest = interest_in((what & CURL_POLL_IN) != 0, (what & CURL_POLL_OUT) != 0);
        multi.watched_.try_emplace(socket, multi.reactor_, ready).first->second.want(socket, interest);
        return 0;
    } catch (...) {
        return -1;
    }

    // Zero means soon, and not inside this call: a deferred call saves the iteration that a timer would cost.
    static int timer_changed(CURLM*, long milliseconds, void* self) noexcept try {
        CurlMulti& multi = *static_cast<CurlMulti*>(self);
        multi.timer_.cancel();
        multi.soon_.cancel();
        if (milliseconds == 0) multi.soon_ = multi.reactor_.defer([&multi] { multi.act(CURL_SOCKET_TIMEOUT, 0); });
        if (milliseconds > 0) multi.timer_.start(std::chrono::milliseconds(milliseconds));
        return 0;
    } catch (...) {
        return -1;
    }

    void act(curl_socket_t socket, int events) {
        int ignored = 0;
        curl_multi_socket_action(multi_, socket, events, &ignored);
        while (const CURLMsg* message = curl_multi_info_read(multi_, &ignored)) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL* const transfer = message->easy_handle;
            const CURLcode result = message->data.result;
            curl_multi_remove_handle(multi_, transfer);
            done_(transfer, result);
        }
    }

    Reactor& reactor_;
    Done done_;
    Timer timer_;
    Deferred soon_;
    std::unordered_map<curl_socket_t, DescriptorWatch> watched_;
    CURLM* multi_;
};

}  // namespace reactor::adapters
