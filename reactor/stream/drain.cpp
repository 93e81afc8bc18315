// Draining: every connection of an acceptor, a loop or a group of loops is asked to end, and cut when the time is over.
// All three are the same thing with another set of connections. Several loops share a Report, under its lock; all else
// belongs to one loop.
#include <reactor/detail/internals.hpp>
#include <reactor/reactor_group.hpp>
#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/drain.hpp>

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>
#include <vector>

namespace reactor {

// The report of one drain, for all the loops that take part. Each of them is either quiet, without a
// connection, or busy. A connection that goes from one loop to another is counted by Reactor::arriving before it leaves
// the first, and until the other has counted it as its own: so it cannot be missed in between.
class Drain::Report {
public:
    /// A loop that may take part. All of them, before any begins.
    void add_loop(Reactor& reactor) { arriving_.push_back(&Internals(reactor).arriving()); }

    /// `parts` are busy now, and `done` is to be called when none is.
    void start(MoveOnlyFunction<void(const Drained&)> done, std::size_t parts) noexcept {
        const std::lock_guard lock(mutex_);
        done_ = std::move(done);
        busy_ = parts;
        all_ = {};
        over_ = false;
    }

    /// One loop has become quiet. If that was the end of the drain, returns what to call with `all`.
    MoveOnlyFunction<void(const Drained&)> quiet(const Drained& one, Drained& all) {
        const std::lock_guard lock(mutex_);
        all_.finished += one.finished;
        all_.cut += one.cut;
        all_.bytes_cut += one.bytes_cut;
        if (--busy_ > 0 || over_) return nullptr;
        // A connection on its way is in no loop's count. It raised `arriving` before it left, so before its loop could
        // be quiet.
        for (const auto* arriving : arriving_)
            if (*arriving > 0) return nullptr;  // that loop will be busy, and quiet again
        over_ = true;
        all = all_;
        return std::move(done_);
    }
    /// One loop is busy again. False if the drain is over.
    bool busy_again() noexcept {
        const std::lock_guard lock(mutex_);
        if (!over_) ++busy_;
        return !over_;
    }
    /// One loop takes part no longer, so that there is no end to report; and it may be destroyed.
    void give_up() noexcept {
        MoveOnlyFunction<void(const Drained&)> dropped;  // destroyed without the lock
        const std::lock_guard lock(mutex_);
        over_ = true;
        dropped = std::move(done_);
    }
    bool over() noexcept {
        const std::lock_guard lock(mutex_);
        return over_;
    }

private:
    std::mutex mutex_;
    MoveOnlyFunction<void(const Drained&)> done_;
    std::vector<const std::atomic<std::size_t>*> arriving_;
    std::size_t busy_ = 0;
    Drained all_;
    bool over_ = false;
};

namespace {

constexpr const char* no_done = "drain: there is no callback for its end";

}  // namespace

Drain::Drain(Reactor& reactor, const ConnectionCounts& counts, const ConnectionGroup* group)
    : reactor_(reactor),
      counts_(counts),
      group_(group),
      own_(std::make_shared<Report>()),
      tell_timer_(reactor, [this] { tell(); }),
      deadline_timer_(reactor, [this] { cut(); }),
      done_timer_(reactor, [this] { report(); }) {
    if (group == nullptr) own_->add_loop(reactor);
}

Drain::~Drain() {
    if (report_ != nullptr) report_->give_up();
}

void Drain::begin(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    done = required(std::move(done), no_done);
    prepare(longest, how);
    own_->start(std::move(done), 1);
    commit(own_, how);
}

void Drain::prepare(Duration longest, Draining how) {
    for_each_connection([](Drainable& connection) { connection.begin_drain(); });
    // Steps that need memory come first: a timer that has its place can be moved without. So each keeps its place until
    // the end.
    done_timer_.start(Duration::max());
    deadline_timer_.start(longest);
    tell_timer_.start(how == Draining::told ? Duration::zero() : Duration::max());
}

void Drain::commit(const std::shared_ptr<Report>& report, Draining how) noexcept {
    // This drain takes the place of one that still goes on, and that is then never reported.
    if (report_ != nullptr && report_ != report) report_->give_up();
    report_ = report;
    how_ = how;
    told_ = overdue_ = quiet_ = false;
    before_ = counts_;
    if (counts_.live == 0) done_timer_.start(Duration::zero());
}

void Drain::connection_came() noexcept {
    if (report_ == nullptr) return;
    if (std::exchange(quiet_, false) && !report_->busy_again()) return end();
    if (overdue_) deadline_timer_.start(Duration::zero());
}

// From the loop, as no call to a protocol may come from inside one to its transport.
void Drain::tell_again() noexcept {
    if (report_ != nullptr && how_ == Draining::told) tell_timer_.start(Duration::zero());
}

void Drain::connection_ended() noexcept {
    // By a timer. This is called when a connection leaves, before its protocol's last call, which may still begin
    // something.
    if (counts_.live == 0 && report_ != nullptr) done_timer_.start(Duration::zero());
}

template <class Call>
void Drain::for_each_connection(Call&& call) {
    const Workspace* const space = Internals(reactor_).streams().get();
    if (space == nullptr) return;                                                    // there has never been one
    Internals(reactor_).for_each_owned([&, group = group_](OwnedHandler& handler) {  // the call may destroy this drain
        if (handler.shares() != space) return;
        auto& connection = static_cast<Drainable&>(handler);
        if (group == nullptr || connection.group() == group) call(connection);
    });
}

// If one throws, the others are called all the same.
void Drain::tell() {
    if (report_->over()) return end();
    tell_timer_.start(Duration::max());
    told_ = true;
    std::exception_ptr first;
    const Lifetime::Watch watch(lifetime_);
    for_each_connection([&](Drainable& connection) {
        if (watch.over()) return;
        try {
            connection.tell_draining();
        } catch (...) {
            if (!first) first = std::current_exception();
        }
    });
    if (first) std::rethrow_exception(first);
}

void Drain::cut() {
    if (report_->over()) return end();
    deadline_timer_.start(Duration::max());
    overdue_ = true;
    // The reports come from the connections' ends, in the steps that follow, and not from here.
    for_each_connection([](Drainable& connection) { connection.abort(std::make_error_code(std::errc::timed_out)); });
}

void Drain::report() {
    done_timer_.start(Duration::max());
    if (counts_.live > 0 || quiet_) return;  // another has come
    quiet_ = true;
    Drained here, all;
    // The ends since the last report: a loop may be quiet several times in one drain of a group.
    here.cut = counts_.failed - before_.failed;
    here.finished = counts_.ended - before_.ended - here.cut;
    here.bytes_cut = counts_.bytes_unsent - before_.bytes_unsent;
    before_ = counts_;
    auto done = report_->quiet(here, all);
    if (!done) return;
    end();
    done(all);  // may destroy this drain
}

void Drain::end() noexcept {
    tell_timer_.cancel();
    deadline_timer_.cancel();
    done_timer_.cancel();
    report_.reset();
}

Drain& Drain::of_loop(Reactor& reactor) {
    SocketConnection::Workspace& space = SocketConnection::workspace_of(reactor);
    // Made when it is first asked for, and kept: connections that come later find it, and are drained too.
    if (space.drain == nullptr) space.drain = std::make_unique<Drain>(reactor, space.counts, nullptr);
    return *space.drain;
}

void Drain::stop_beginnings(Reactor& reactor, Draining how) noexcept {
    for (ConnectionGroup::Owner* owner : SocketConnection::workspace_of(reactor).owners) owner->no_new_ones(how);
}

void drain(Reactor& reactor, Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    Drain::of_loop(reactor).begin(longest, std::move(done), how);
    Drain::stop_beginnings(reactor, how);
}

// The timer has its place since the drain began, so that starting it anew needs no memory.
void cut_drain(Reactor& reactor) noexcept {
    if (Internals(reactor).streams() == nullptr) return;
    const auto& drain = SocketConnection::workspace_of(reactor).drain;
    if (drain != nullptr && drain->report_ != nullptr) drain->deadline_timer_.start(Duration::zero());
}

void drain(ReactorGroup& group, Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    // Known to all the loops, and counting all of them as busy, before any begins. Otherwise the first to be quiet
    // could be the end.
    const auto report = std::make_shared<Drain::Report>();
    for (std::size_t i = 0; i < group.size(); ++i) report->add_loop(group[i]);
    report->start(required(std::move(done), no_done), group.size());
    // Two calls at the same moment reach all loops in the same order. Otherwise each of them could replace the other on
    // some of the loops, and neither would report.
    static std::mutex order;
    const std::lock_guard lock(order);
    for (std::size_t i = 0; i < group.size(); ++i) {
        Reactor& reactor = group[i];
        reactor.post([report, &reactor, longest, how] {
            try {
                Drain& drain = Drain::of_loop(reactor);
                drain.prepare(longest, how);
                drain.commit(report, how);
                Drain::stop_beginnings(reactor, how);
            } catch (...) {  // the others report all the same
                Drained all;
                if (auto last = report->quiet({}, all)) last(all);
                throw;
            }
        });
    }
}

}  // namespace reactor
