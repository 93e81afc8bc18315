// libcurl's multi interface driven by a reactor: libcurl says which sockets it waits for and how long, and gets their
// events. Any number of transfers at once, all on the loop's thread.
//
//     Reactor reactor;
//     CurlMulti transfers(reactor, done);  // declared behind the reactor: so it is destroyed before it
//     transfers.add(easy_handle);
//     reactor.run();
#pragma once

#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <curl/curl.h>

#include <memory>
#include <new>
#include <unordered_map>
#include <utility>

class CurlMulti {
public:
    using Done = reactor::MoveOnlyFunction<void(CURL*, CURLcode)>;

    /// `done` is called for each transfer that has ended, when it has been taken out of the multi handle: it may be
    /// cleaned up, or added again.
    CurlMulti(reactor::Reactor& reactor, Done done)
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
    ~CurlMulti() { curl_multi_cleanup(multi_); }  // lets go of its sockets, by socket_changed
    CurlMulti(const CurlMulti&) = delete;
    CurlMulti& operator=(const CurlMulti&) = delete;

    /// Begins a transfer, from the loop; the handle stays the caller's.
    void add(CURL* transfer) { curl_multi_add_handle(multi_, transfer); }

    CURLM* handle() const noexcept { return multi_; }

private:
    struct Watched final : reactor::EventHandler {
        Watched(CurlMulti& the_owner, curl_socket_t the_socket)
            : owner(the_owner),
              socket(the_socket),
              registration(owner.reactor_.watch(socket, reactor::Interest::none, *this)) {}
        // curl may destroy this object in the call: so that is the last thing done.
        void readable() override { owner.act(socket, CURL_CSELECT_IN); }
        void writable() override { owner.act(socket, CURL_CSELECT_OUT); }
        void lost(std::error_code) override { owner.act(socket, CURL_CSELECT_ERR); }

        CurlMulti& owner;
        curl_socket_t socket;
        reactor::Registration registration;
    };

    // Called by curl in the middle of its work, so it must not be called back from here.
    static int socket_changed(CURL*, curl_socket_t socket, int what, void* self, void*) {
        auto& watched = static_cast<CurlMulti*>(self)->watched_;
        if (what == CURL_POLL_REMOVE) {
            watched.erase(socket);
            return 0;
        }
        auto& entry = watched[socket];
        if (entry == nullptr) entry = std::make_unique<Watched>(*static_cast<CurlMulti*>(self), socket);
        reactor::Interest interest = reactor::Interest::none;
        if ((what & CURL_POLL_IN) != 0) interest |= reactor::Interest::readable;
        if ((what & CURL_POLL_OUT) != 0) interest |= reactor::Interest::writable;
        entry->registration.set_interest(interest);
        return 0;
    }

    // A time of 0 means soon, and not from inside this call: that is what a timer does.
    static int timer_changed(CURLM*, long milliseconds, void* self) {
        reactor::Timer& timer = static_cast<CurlMulti*>(self)->timer_;
        if (milliseconds < 0) {
            timer.cancel();
        } else {
            timer.start(std::chrono::milliseconds(milliseconds));
        }
        return 0;
    }

    void act(curl_socket_t socket, int events) {
        int running = 0;
        curl_multi_socket_action(multi_, socket, events, &running);
        int waiting = 0;
        while (const CURLMsg* message = curl_multi_info_read(multi_, &waiting)) {
            if (message->msg != CURLMSG_DONE) continue;
            CURL* transfer = message->easy_handle;
            const CURLcode result = message->data.result;
            curl_multi_remove_handle(multi_, transfer);
            done_(transfer, result);
        }
    }

    reactor::Reactor& reactor_;
    Done done_;
    reactor::Timer timer_;
    std::unordered_map<curl_socket_t, std::unique_ptr<Watched>> watched_;
    CURLM* multi_;
};
