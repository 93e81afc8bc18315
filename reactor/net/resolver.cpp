// Names are looked up by getaddrinfo(3) on threads, because it blocks and cannot be cancelled. So a look-up that has
// begun goes on when all who asked have left, and only its answer is dropped. The threads belong to the process and not
// to a loop: a loop may end at any time, and they may not be waited for.
#include <reactor/detail/callback.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/net/look_up_impl.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/reactor.hpp>

#include <pthread.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace reactor {

struct Resolver::Answer {
    std::error_code error;
    std::vector<Address> addresses;
};

// One resolver's part in a look-up. The thread that looks up reads `reactor` while this waits for it, and nothing else.
struct Resolver::Request {
    Reactor* reactor = nullptr;
    std::uint16_t port = 0;
    Done done;                        // empty once it was called or cancelled
    std::shared_ptr<LookUp> look_up;  // null if there is none
    bool awaited = false;             // counted by its reactor; the loop's, as `done` is

    void tell(const Answer& answer) {
        if (!done) return;  // cancelled since
        std::error_code error = answer.error;
        std::vector<Address> addresses;
        try {
            // Copied, because other requests may have the same answer, and on other threads.
            addresses = answer.addresses;
        } catch (const std::bad_alloc&) {
            error = std::make_error_code(std::errc::not_enough_memory);
        }
        // A look-up has no port, so that equal names share it whatever their ports.
        for (Address& address : addresses) address = address.with_port(port);
        if (std::exchange(awaited, false)) --Internals(*reactor).awaited();
        Done call = std::exchange(done, {});  // it may destroy the resolver
        call(error, std::move(addresses));
    }
};

struct Resolver::LookUp {
    LookUp(std::string_view the_host, Address::Family the_family) : host(the_host), family(the_family) {}

    const std::string host;
    const Address::Family family;
    struct Waiting {
        std::shared_ptr<Request> request;
        PreparedPost answered;  // it owes its answer, and so needs no memory to give it
    };
    bool begun = false;
    std::vector<Waiting> waiting;
    Answer answer;  // written once, before the waiting requests get it

    // As bad as running out of memory is for one look-up, it ends no thread.
    Answer ask() const noexcept {
        Answer found;
        try {
            found.addresses = reactor::look_up(host, family);
        } catch (const std::system_error& failure) {
            found.error = failure.code();
        } catch (const std::bad_alloc&) {
            found.error = std::make_error_code(std::errc::not_enough_memory);
        }
        return found;
    }
};

// The look-ups of the process that are not answered, and the threads for them. Everything in here is under one mutex.
// It is held while loops are called, which keeps them alive: ~Resolver takes it before a reactor can go.
class Resolver::LookUps {
public:
    // Never destroyed: threads go on while the process ends.
    static LookUps& of_process() {
        static LookUps* const all = new LookUps;
        return *all;
    }

    // Throws std::bad_alloc, and std::system_error if there is no thread; then nothing has changed.
    void add(const std::shared_ptr<Request>& request, std::string_view host, Address::Family family) {
        const std::lock_guard lock(mutex_);
        PreparedPost answered([request] { request->tell(request->look_up->answer); });
        // A program that connects a thousand times to one server asks for its name a thousand times.
        if (const auto found = unanswered_.find({host, family}); found != unanswered_.end()) {
            found->second->waiting.push_back({request, std::move(answered)});
            request->look_up = found->second;
            return;
        }
        const auto look_up = std::make_shared<LookUp>(host, family);
        look_up->waiting.push_back({request, std::move(answered)});
        const auto place = unanswered_.emplace(Question{look_up->host, family}, look_up).first;
        // Two queues, since a name server that is silent about IPv6 addresses alone, as broken home routers are, would
        // otherwise take all the threads from the IPv4 look-ups.
        Lane& lane = lane_of(family);
        try {
            lane.queue.push_back(look_up);
        } catch (...) {
            unanswered_.erase(place);
            throw;
        }
        const std::error_code error = lane.threads < most_threads / 2 ? start_thread(lane) : std::error_code();
        if (error && lane.threads == 0) {  // otherwise one of the threads that there are comes to it
            lane.queue.pop_back();
            unanswered_.erase(place);
            throw std::system_error(error, "std::thread");
        }
        request->look_up = look_up;
    }

    void leave(Request& request) noexcept {
        const std::lock_guard lock(mutex_);
        const std::shared_ptr<LookUp> look_up = std::move(request.look_up);
        if (look_up == nullptr) return;
        std::erase_if(look_up->waiting, [&](const auto& one) { return one.request.get() == &request; });
        // One that a thread has begun is left to it.
        if (look_up->begun || !look_up->waiting.empty()) return;
        std::erase(lane_of(look_up->family).queue, look_up);
        forget(*look_up);
    }

private:
    using Question = std::pair<std::string_view, Address::Family>;  // the view is of the look-up's own name
    struct Lane {
        std::deque<std::shared_ptr<LookUp>> queue;
        std::size_t threads = 0;
    };

    // A fork copies what is here, whatever the other threads are at, and none of these threads.
    LookUps() {
        ::pthread_atfork([] { of_process().mutex_.lock(); }, [] { of_process().mutex_.unlock(); },
                         [] {
                             LookUps& all = of_process();
                             all.unanswered_.clear();
                             all.lanes_[0] = all.lanes_[1] = Lane();
                             all.mutex_.unlock();
                         });
    }

    Lane& lane_of(Address::Family family) noexcept { return lanes_[family == Address::Family::ipv4 ? 0 : 1]; }

    std::error_code start_thread(Lane& lane) noexcept {
        try {
            // Detached, because a thread in getaddrinfo(3) may take ten seconds, and the program must be able to end.
            std::thread([this, &lane] { work(lane); }).detach();
        } catch (const std::system_error& failure) {
            return failure.code();
        } catch (const std::bad_alloc&) {
            return std::make_error_code(std::errc::not_enough_memory);
        }
        ++lane.threads;
        return {};
    }

    void work(Lane& lane) noexcept {
        std::unique_lock lock(mutex_);
        while (!lane.queue.empty()) {
            const std::shared_ptr<LookUp> look_up = std::move(lane.queue.front());
            lane.queue.pop_front();
            look_up->begun = true;
            lock.unlock();
            Answer answer = look_up->ask();
            lock.lock();
            forget(*look_up);
            // From here on it cannot be found, so whoever asks now gets an answer that is fresh.
            look_up->answer = std::move(answer);
            // No resolver's last hold of its request goes here: the callable in it belongs to its loop.
            for (LookUp::Waiting& one : look_up->waiting) one.request->reactor->post(std::move(one.answered));
            look_up->waiting.clear();
        }
        --lane.threads;
    }

    void forget(const LookUp& look_up) noexcept {
        const auto place = unanswered_.find({look_up.host, look_up.family});
        if (place != unanswered_.end() && place->second.get() == &look_up) unanswered_.erase(place);
    }

    std::mutex mutex_;
    std::map<Question, std::shared_ptr<LookUp>> unanswered_;
    Lane lanes_[2];  // of IPv4, and of all others
};

Resolver::Resolver(Reactor& reactor, std::string_view host, std::uint16_t port, Done done)
    : Resolver(reactor, host, port, Address::Family::none, std::move(done)) {}

Resolver::Resolver(Reactor& reactor, std::string_view host, std::uint16_t port, Address::Family family, Done done)
    : request_(std::make_shared<Request>()) {
    request_->reactor = &reactor;
    request_->port = port;
    request_->done = required(std::move(done), "Resolver: no callback");
    Answer answer;
    try {
        auto known = addresses_without_look_up(host, port);
        if (!known) {
            LookUps::of_process().add(request_, host, family);
            ++Internals(reactor).awaited();
            request_->awaited = true;
            return;
        }
        answer.addresses = *std::move(known);
        if (family != Address::Family::none)
            std::erase_if(answer.addresses, [&](const Address& address) { return address.family() != family; });
        if (answer.addresses.empty()) answer.error = std::make_error_code(std::errc::address_not_available);
    } catch (const std::system_error& failure) {
        answer.error = failure.code();
    }
    reactor.post([request = request_, told = std::move(answer)] { request->tell(told); });
}

Resolver::~Resolver() {
    request_->done = {};
    if (std::exchange(request_->awaited, false)) --Internals(*request_->reactor).awaited();
    if (request_->look_up != nullptr) LookUps::of_process().leave(*request_);
}

}  // namespace reactor
