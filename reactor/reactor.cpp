#include <reactor/reactor.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

namespace reactor {

namespace {

constexpr std::size_t few = 4;  // so many ready descriptors are worth a busy wait for the next ones

// Up to here the table grows for any number, which is a megabyte; beyond, only for a descriptor that is open, since
// the table is as large as the highest one, and one that is not a descriptor may be any number.
constexpr std::size_t believed_descriptors = 64 * 1024;

constexpr Interest all_interests[] = {Interest::readable, Interest::writable, Interest::error};

// After a burst the memory goes back; what an ordinary turn needs stays.
template <class T>
void clear_keeping_little(std::vector<T>& list) noexcept {
    constexpr std::size_t little = 1024;
    if (list.capacity() > little) {
        std::vector<T>().swap(list);
    } else {
        list.clear();
    }
}

}  // namespace

// ── Registration ──

void Registration::set_interest(Interest interest) noexcept { reactor_->set_interest(descriptor_, id_, interest); }

Interest Registration::interest() const noexcept { return reactor_->interest(descriptor_, id_); }

void Registration::trigger(Interest ready) {
    // One each: a call that throws must not take the next one with it. Urgent is the condition that is told
    // to nobody who does not ask for errors.
    for (const auto& [one, condition] : {std::pair{Interest::readable, Condition::readable},
                                         std::pair{Interest::writable, Condition::writable},
                                         std::pair{Interest::error, Condition::urgent}})
        if (any(ready, one)) reactor_->triggers_.push_back({{descriptor_, id_}, condition, {}});
}

void Registration::reset() noexcept {
    if (reactor_ != nullptr) reactor_->retire(*this);
}

// ── the table: who watches what ──

Reactor::Reactor(std::string_view backend, const Clock& clock) : Reactor(make_demultiplexer(backend), clock) {
    made_by_name_ = true;
}

Reactor::Reactor(std::unique_ptr<Demultiplexer> demultiplexer, const Clock& clock)
    : clock_(clock), demultiplexer_(std::move(demultiplexer)), made_by_name_(false) {
    wakeup_registration_ = watch(wakeup_.descriptor(), Interest::readable, wakeup_handler_);
}

Reactor::~Reactor() {
    std::vector<Task> unrun;
    {
        const std::lock_guard lock(posted_mutex_);
        closing_ = true;  // the destructors below may post
        unrun.swap(posted_);
    }
    unrun.clear();
    posted_now_.clear();
    // A handler's destructor may remove others, so each is taken out of the table before it is destroyed.
    for (std::size_t descriptor = 0; descriptor < slots_.size(); ++descriptor) {
        while (slots_[descriptor].generation != 0) {
            const Slot& slot = slots_[descriptor];
            const std::uint32_t id = slot.shared() ? shared_[int(descriptor)].front().id : slot.generation;
            const std::unique_ptr<OwnedHandler> owned(remove(int(descriptor), id));
        }
    }
    for (OwnedHandler* list : {retired_now_, retired_})
        while (list != nullptr) {
            const std::unique_ptr<OwnedHandler> owned(list);
            list = owned->next_retired_;
        }
    wakeup_registration_.reset();
}

Registration Reactor::watch(int descriptor, Interest interest, EventHandler& handler) {
    return add(descriptor, interest, handler, false);
}

Registration Reactor::adopt(int descriptor, Interest interest, std::unique_ptr<OwnedHandler> handler) {
    Registration registration = add(descriptor, interest, *handler, true);
    handler.release();
    return registration;
}

void Reactor::retire(Registration& registration) noexcept {
    if (std::exchange(registration.reactor_, nullptr) == nullptr) return;
    OwnedHandler* handler = remove(registration.descriptor_, registration.id_);
    if (handler == nullptr) return;
    *retired_end_ = handler;
    retired_end_ = &handler->next_retired_;
}

std::unique_ptr<OwnedHandler> Reactor::release(Registration& registration) noexcept {
    if (std::exchange(registration.reactor_, nullptr) == nullptr) return nullptr;
    return std::unique_ptr<OwnedHandler>(remove(registration.descriptor_, registration.id_));
}

std::uint32_t Reactor::next_id() noexcept {
    if (++last_id_ == 0) ++last_id_;  // 0 stands for nobody
    return last_id_;
}

Registration Reactor::add(int descriptor, Interest interest, EventHandler& handler, bool owned) {
    const auto index = std::size_t(descriptor);
    const bool grows = index >= slots_.size();
    if (descriptor < 0 || (grows && index >= believed_descriptors && ::fcntl(descriptor, F_GETFD) < 0))
        throw std::system_error(EBADF, std::system_category(),
                                "Reactor::watch: descriptor " + std::to_string(descriptor));
    if (grows) {
        const std::size_t size = std::max(index + 1, slots_.size() * 2);
        changes_.reserve(size);  // every descriptor stands in it at most once: noting a change cannot fail
        slots_.resize(size);
    }
    Slot& slot = slots_[index];
    const std::uint32_t id = next_id();
    if (slot.generation != 0) {
        note_change(descriptor);
        share(descriptor);
        shared_[descriptor].push_back({&handler, id, interest, owned, false});
        slot.set_wanted(slot.wanted | interest);
        // The number may have been closed and used again. The kernel may have forgotten the earlier file, or go on
        // reporting it because of a duplicate: the new generation tells it from this one.
        slot.resubmit = true;
        slot.generation = next_id();
        ++removals_;
    } else {
        if (interest != Interest::none) note_change(descriptor);
        slot.handler = &handler;
        slot.generation = id;
        slot.set_wanted(interest);
        slot.owned = owned;
    }
    return Registration(*this, descriptor, id);
}

// Moves a single registration out of its slot, to make room for more.
void Reactor::share(int descriptor) {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.shared()) return;
    shared_[descriptor].push_back({slot.handler, slot.generation, slot.wanted, slot.owned, slot.lost()});
    if (slot.lost()) slot.set_wanted(Interest::none);  // the number lives again, but not for the one who lost it
    slot.handler = nullptr;
    slot.owned = false;
    slot.set_kind(Slot::Kind::shared);
}

// The registration with this id, or one without a handler.
Reactor::Watch Reactor::find(int descriptor, std::uint32_t id) noexcept {
    const Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.shared()) {
        const Watch* watch = find_shared(descriptor, id);
        return watch == nullptr ? Watch{} : *watch;
    }
    if (slot.generation != id) return {};
    return {slot.handler, id, slot.wanted, slot.owned, slot.lost()};
}

Reactor::Watch* Reactor::find_shared(int descriptor, std::uint32_t id) noexcept {
    for (Watch& watch : shared_.find(descriptor)->second)
        if (watch.id == id) return &watch;
    return nullptr;
}

void Reactor::set_interest(int descriptor, std::uint32_t id, Interest interest) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (!slot.shared()) {
        slot.set_wanted(interest);
        return note_change(descriptor);
    }
    find_shared(descriptor, id)->wanted = interest;
    update_union(descriptor);
}

// What a shared descriptor is watched for: all that anyone wants who has not lost it.
void Reactor::update_union(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    Interest wanted = Interest::none;
    for (const Watch& watch : shared_.find(descriptor)->second)
        if (!watch.lost) wanted |= watch.wanted;
    slot.set_wanted(wanted);
    note_change(descriptor);
}

Interest Reactor::interest(int descriptor, std::uint32_t id) noexcept { return find(descriptor, id).wanted; }

void Reactor::note_change(int descriptor) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.changed) return;
    changes_.push_back(descriptor);
    slot.changed = true;
}

// Takes a registration out of the table and returns its handler if the reactor owned it.
OwnedHandler* Reactor::remove(int descriptor, std::uint32_t id) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    const Watch gone = find(descriptor, id);
    if (gone.handler == nullptr) return nullptr;
    bool last = true;
    if (slot.shared()) {
        auto watches = shared_.find(descriptor);
        std::erase_if(watches->second, [&](const Watch& watch) { return watch.id == id; });
        last = watches->second.empty();
        if (last) {
            shared_.erase(watches);
        } else {
            update_union(descriptor);
        }
    }
    if (last) {
        if (slot.submitted != Interest::none) {
            ++counters_.changes;
            demultiplexer_->update({descriptor, slot.generation}, slot.submitted, Interest::none);
        }
        const bool changed = slot.changed;  // it still stands in changes_
        slot = Slot{};
        slot.changed = changed;
    }
    ++removals_;
    return gone.owned ? static_cast<OwnedHandler*>(gone.handler) : nullptr;
}

// ── the turn ──

struct Reactor::Running {
    explicit Running(Reactor& owner) : reactor(owner) {
        if (reactor.running_) throw std::logic_error("Reactor: run inside run");
        reactor.running_ = true;
    }
    ~Running() {
        reactor.running_ = false;
        reactor.turn_time_known_ = false;
        reactor.asleep_ = true;  // nobody looks at the queue now, so posts make native_handle() readable
    }
    Reactor& reactor;
};

void Reactor::run() {
    const Running running(*this);
    while (!stop_.exchange(false)) turn(std::nullopt);
}

std::size_t Reactor::run_once(std::optional<Duration> limit) {
    const Running running(*this);
    const std::uint64_t before = counters_.events;
    turn(stop_.load() ? Duration::zero() : limit);
    stop_ = false;
    return std::size_t(counters_.events - before);
}

void Reactor::run_for(Duration limit) {
    const Running running(*this);
    const TimePoint end = deadline_after(now(), limit);
    while (!stop_.exchange(false)) {
        turn(std::max(end - now(), Duration::zero()));
        if (now() < end) continue;
        stop_ = false;
        return;
    }
}

void Reactor::stop() noexcept {
    stop_ = true;
    if (asleep_.exchange(false)) wakeup_.notify();
}

bool Reactor::post(Task task) {
    {
        const std::lock_guard lock(posted_mutex_);
        if (closing_) return false;
        posted_.push_back(std::move(task));
        posted_waiting_ = true;
    }
    // The loop says that it goes to sleep and then looks at posted_waiting_; here it is the other way round.
    // Whichever comes first, one of the two sees the other.
    if (asleep_.exchange(false)) wakeup_.notify();
    return true;
}

void Reactor::WakeupHandler::readable() {
    reactor.wakeup_.drain();
    ++reactor.counters_.wakeups;
}

// The loop is deaf to other threads: whoever runs it must know, and if the kernel only had no room it is tried again.
void Reactor::WakeupHandler::lost(std::error_code reason) {
    reactor.wakeup_registration_.reset();
    if (reason != std::errc::bad_file_descriptor)
        reactor.wakeup_registration_ = reactor.watch(reactor.wakeup_.descriptor(), Interest::readable, *this);
    throw std::system_error(reason, "Reactor: watching the wake-up descriptor");
}

void Reactor::turn(std::optional<Duration> limit) {
    if (step_ == Step::wait) {
        if (!before_wait_.empty()) run_hooks(before_wait_);
        if (rebuild_) rebuild();
        if (!changes_.empty()) hand_over_changes();
        wait(limit);
        step_ = Step::dispatch;
        if (!after_wait_.empty()) run_hooks(after_wait_);
    }
    // Each step goes on behind whatever threw in it: in this turn if there is a hook, in the next if not.
    while (step_ != Step::wait) {
        try {
            go_through_steps();
        } catch (...) {
            if (on_exception_ == nullptr) throw;
            (*on_exception_)(std::current_exception());
        }
    }
}

// Each step is left out where there is nothing to do: with one active connection a turn is a message.
void Reactor::go_through_steps() {
    switch (step_) {
        case Step::wait: return;
        case Step::dispatch:
            dispatch_batch();
            if (!triggers_.empty()) triggers_now_.swap(triggers_);
            step_ = Step::triggers;
            [[fallthrough]];
        case Step::triggers:
            if (!triggers_now_.empty()) run_triggers();
            step_ = Step::timers;
            [[fallthrough]];
        case Step::timers:
            if (timers_.size() > 0 || timers_.interrupted()) counters_.timers += timers_.run_due(now());
            step_ = Step::posted;
            [[fallthrough]];
        case Step::posted:
            if (posted_waiting_.load(std::memory_order_relaxed) || !posted_now_.empty()) run_posted();
            step_ = Step::retire;
            if (retired_ != nullptr) {
                retired_now_ = std::exchange(retired_, nullptr);
                retired_end_ = &retired_;
            }
            [[fallthrough]];
        case Step::retire:
            if (retired_now_ != nullptr) run_retired();
            step_ = Step::wait;
    }
}

void Reactor::run_hooks(std::vector<Hook*>& hooks) {
    for (std::size_t i = 0; i < hooks.size(); ++i)  // they may add and remove each other
        if (hooks[i] != nullptr) hooks[i]->callable_();
    std::erase(hooks, nullptr);
}

// In the order in which they were asked for, which poll's array then keeps.
void Reactor::hand_over_changes() {
    std::size_t handed_over = 0;
    try {
        for (; handed_over < changes_.size(); ++handed_over) hand_over(changes_[handed_over]);
    } catch (...) {  // no memory to note that one was refused: it and those behind it stay
        changes_.erase(changes_.begin(), changes_.begin() + std::ptrdiff_t(handed_over));
        throw;
    }
    changes_.clear();
}

void Reactor::hand_over(int descriptor) {
    Slot& slot = slots_[std::size_t(descriptor)];
    const bool differs = slot.wanted != slot.submitted || slot.resubmit;
    if (differs && !slot.lost() && slot.generation != 0) {
        ++counters_.changes;
        std::error_code refused;
        try {
            demultiplexer_->update({descriptor, slot.generation}, slot.submitted, slot.wanted);
            slot.submitted = slot.wanted;
        } catch (const std::system_error& error) {
            refused = error.code();
        } catch (const std::bad_alloc&) {
            refused = std::make_error_code(std::errc::not_enough_memory);
        }
        if (refused) {
            slot.submitted = Interest::none;
            tell_lost_later(descriptor, refused);
        }
    }
    slot.resubmit = false;
    slot.changed = false;
}

void Reactor::tell_lost_later(int descriptor, std::error_code reason) {
    const Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.shared()) {
        for (const Watch& watch : shared_.find(descriptor)->second)
            triggers_.push_back({{descriptor, watch.id}, Condition::invalid, reason});
    } else {
        triggers_.push_back({{descriptor, slot.generation}, Condition::invalid, reason});
    }
}

std::optional<Duration> Reactor::next_timeout() noexcept {
    const bool work_waits = step_ != Step::wait || !changes_.empty() || !triggers_.empty() || retired_ != nullptr ||
                            timers_.interrupted() || posted_waiting_.load() || stop_.load();
    if (work_waits) return Duration::zero();
    const auto next = timers_.next();
    if (!next) return std::nullopt;
    return std::max(*next - now(), Duration::zero());
}

void Reactor::wait(std::optional<Duration> limit) {
    asleep_ = true;
    auto timeout = next_timeout();
    if (limit && (!timeout || *limit < *timeout)) timeout = std::max(*limit, Duration::zero());
    next_event_ = batch_end_ = nullptr;
    ++counters_.turns;
    const bool busy = busy_wait_ > Duration::zero() && few_were_ready_ && timeout != Duration::zero();
    const std::span<const Event> batch = busy ? busy_wait(timeout) : demultiplexer_->wait(timeout);
    few_were_ready_ = !batch.empty() && batch.size() <= few;
    next_event_ = batch.data();
    batch_end_ = next_event_ + batch.size();
    asleep_ = false;
    counters_.events += batch.size();
    batch_removals_ = removals_;
    turn_time_known_ = false;
    // A deadline holds against who had not spoken when the loop looked; what handlers take from here on is not their time.
    if (timers_.size() > 0) (void)turn_time();
}

// By the real clock, whatever the loop's own one is: it is the processor's time that is spent.
std::span<const Event> Reactor::busy_wait(std::optional<Duration> timeout) {
    const Clock& clock = Clock::monotonic();
    const TimePoint begin = clock.now();
    const Duration longest = timeout ? std::min(*timeout, busy_wait_) : busy_wait_;
    Duration passed = Duration::zero();
    do {
        ++counters_.looks;
        const std::span<const Event> batch = demultiplexer_->wait(Duration::zero());
        if (!batch.empty()) return batch;
        std::this_thread::yield();  // who is to answer may be waiting for this very processor
        passed = clock.now() - begin;
    } while (passed < longest);
    if (timeout) timeout = std::max(*timeout - passed, Duration::zero());
    return demultiplexer_->wait(timeout);
}

// The way of nearly every event: one registration, readable or writable and not both.
[[gnu::always_inline]] inline void Reactor::dispatch(const Event& event) {
    const Slot& slot = slots_[std::size_t(event.token.descriptor)];
    if (slot.generation == event.token.generation) [[likely]] {
        if (event.condition == Condition::readable && any(slot.direct, Interest::readable)) [[likely]]
            return slot.handler->readable();
        if (event.condition == Condition::writable && any(slot.direct, Interest::writable))
            return slot.handler->writable();
    }
    dispatch_rare(event.token, event.condition);
}

void Reactor::dispatch_batch() {
    if (on_slow_call_ == nullptr) [[likely]] {
        // Who is called may put an end to the batch (after_fork), and an exception leaves the rest of it for later.
        for (const Event* event = next_event_; event < batch_end_;) {
            next_event_ = event + 1;
            dispatch(*event++);
        }
        return;
    }
    while (next_event_ != batch_end_) {
        const Event& event = *next_event_++;
        const EventHandler* handler = slots_[std::size_t(event.token.descriptor)].handler;
        const Stopwatch stopwatch(*this, SlowCall::Kind::event, handler, event.token.descriptor);
        dispatch(event);
    }
}

void Reactor::dispatch_rare(Token token, Condition condition) {
    const Slot& slot = slots_[std::size_t(token.descriptor)];
    if (slot.generation != token.generation || slot.submitted == Interest::none) {
        // Removed earlier in this batch, as a rule. If nothing was, then the kernel still watches a file that
        // was closed behind our back while a duplicate keeps it alive; there is no way to remove that from an
        // epoll set but to leave the set.
        if (removals_ == batch_removals_) rebuild_ = made_by_name_;
        return;
    }
    const auto bad = std::error_code(EBADF, std::system_category());
    if (!slot.shared()) return tell(token.descriptor, token.generation, condition, bad);
    std::vector<std::uint32_t> ids;
    for (const Watch& watch : shared_[token.descriptor]) ids.push_back(watch.id);
    for (const std::uint32_t id : ids) tell(token.descriptor, id, condition, bad);
}

// Tells one registration all that it wants to hear of, looking again before each call whether it still does.
void Reactor::tell(int descriptor, std::uint32_t id, Condition condition, std::error_code error) {
    if (any(condition, Condition::invalid)) {
        const Watch watch = find(descriptor, id);
        if (watch.handler == nullptr || watch.lost) return;
        lose(descriptor, id);
        return watch.handler->lost(error);
    }
    for (const Interest one : all_interests) {
        const Watch watch = find(descriptor, id);
        if (watch.handler == nullptr || watch.lost) return;
        if (!any(told(condition, watch.wanted), one)) continue;
        if (one == Interest::readable) watch.handler->readable();
        if (one == Interest::writable) watch.handler->writable();
        if (one == Interest::error) watch.handler->error();
    }
}

// The registration stays in the table, but nothing comes of it any more.
void Reactor::lose(int descriptor, std::uint32_t id) noexcept {
    Slot& slot = slots_[std::size_t(descriptor)];
    if (slot.submitted != Interest::none) {
        demultiplexer_->update({descriptor, slot.generation}, slot.submitted, Interest::none);
        slot.submitted = Interest::none;
    }
    if (!slot.shared()) {
        slot.set_kind(Slot::Kind::lost);
        return;
    }
    // The others are told next. If one of them throws, the backend is asked again for those behind it.
    find_shared(descriptor, id)->lost = true;
    update_union(descriptor);
}

void Reactor::run_triggers() {
    while (trigger_next_ < triggers_now_.size()) {
        const Trigger trigger = triggers_now_[trigger_next_++];
        const EventHandler* handler = slots_[std::size_t(trigger.token.descriptor)].handler;
        const Stopwatch stopwatch(*this, SlowCall::Kind::event, handler, trigger.token.descriptor);
        tell(trigger.token.descriptor, trigger.token.generation, trigger.condition, trigger.error);
    }
    trigger_next_ = 0;
    clear_keeping_little(triggers_now_);
}

void Reactor::run_posted() {
    if (posted_now_.empty()) {
        const std::lock_guard lock(posted_mutex_);
        posted_waiting_ = false;
        posted_now_.swap(posted_);
    }
    while (posted_next_ < posted_now_.size()) {
        Task task = std::move(posted_now_[posted_next_++]);
        ++counters_.tasks;
        const Stopwatch stopwatch(*this, SlowCall::Kind::task, nullptr);
        task();
    }
    posted_next_ = 0;
    clear_keeping_little(posted_now_);
}

void Reactor::run_retired() {
    while (retired_now_ != nullptr) {
        const Stopwatch stopwatch(*this, SlowCall::Kind::retired, retired_now_);
        const std::unique_ptr<OwnedHandler> handler(retired_now_);
        retired_now_ = handler->next_retired_;
        handler->retired();
    }
}

void Reactor::rebuild() noexcept {
    try {
        replace_demultiplexer();
        rebuild_ = false;
    } catch (const std::exception&) {
        // No descriptor or no memory: the old one still works, and the next turn tries again.
    }
}

// A new backend, to which everything is submitted anew. The old one is told nothing.
void Reactor::replace_demultiplexer() {
    demultiplexer_ = make_demultiplexer(demultiplexer_->name());
    for (std::size_t descriptor = 0; descriptor < slots_.size(); ++descriptor) {
        Slot& slot = slots_[descriptor];
        slot.submitted = Interest::none;
        if (slot.wanted != Interest::none) note_change(int(descriptor));
    }
}

void Reactor::after_fork() {
    if (!made_by_name_) throw std::logic_error("Reactor::after_fork: the demultiplexer is the caller's");
    Wakeup wakeup;
    replace_demultiplexer();
    // The batch lay in the old backend; being level-triggered, the new one tells all of it again.
    next_event_ = batch_end_ = nullptr;
    wakeup_registration_.reset();  // before its descriptor is closed; the new backend does not know it yet
    wakeup_ = std::move(wakeup);
    wakeup_registration_ = watch(wakeup_.descriptor(), Interest::readable, wakeup_handler_);
    if (!asleep_) wakeup_.notify();  // somebody has notified the old one
}

Counters Reactor::counters() const noexcept {
    Counters all = counters_;
    if (workspace_ == nullptr) return all;
    all.connections = workspace_->connections;
    all.bytes_received = workspace_->bytes_received;
    all.bytes_sent = workspace_->bytes_sent;
    return all;
}

void Reactor::report(SlowCall call, TimePoint start) noexcept {
    call.duration = now() - start;
    if (on_slow_call_ != nullptr && call.duration >= slow_threshold_) (*on_slow_call_)(call);
}

void Reactor::on_slow_call(Duration threshold, MoveOnlyFunction<void(const SlowCall&)> hook) {
    on_slow_call_ = hook ? std::make_unique<Callback<const SlowCall&>>(std::move(hook)) : nullptr;
    slow_threshold_ = threshold;
}

void Reactor::on_notice(MoveOnlyFunction<void(Notice, std::string_view)> hook) {
    on_notice_ = hook ? std::make_unique<Callback<Notice, std::string_view>>(std::move(hook)) : nullptr;
}

void Reactor::on_exception(MoveOnlyFunction<void(std::exception_ptr)> hook) {
    on_exception_ = hook ? std::make_unique<Callback<std::exception_ptr>>(std::move(hook)) : nullptr;
}

// ── Hook ──

Hook::Hook(Reactor& reactor, When when, Task callable)
    : list_(when == When::before_wait ? reactor.before_wait_ : reactor.after_wait_), callable_(std::move(callable)) {
    list_.push_back(this);
}

// The list may be in use: run_hooks sweeps up.
Hook::~Hook() { std::replace(list_.begin(), list_.end(), this, static_cast<Hook*>(nullptr)); }

}  // namespace reactor
