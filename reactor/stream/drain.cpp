#include <reactor/stream/connection_impl.hpp>
#include <reactor/stream/drain.hpp>
#include <reactor/reactor_group.hpp>

#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <utility>

namespace reactor {

Drain::Drain(Reactor& reactor, const ConnectionCounts& counts, const ConnectionGroup* group)
    : reactor_(reactor),
      counts_(counts),
      group_(group),
      tell_timer_(reactor, [this] { tell(); }),
      deadline_timer_(reactor, [this] { cut(); }),
      done_timer_(reactor, [this] { report(); }) {}

namespace {

constexpr const char* no_done = "drain: there is no callback for its end";

}  // namespace

void Drain::begin(Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    done = required(std::move(done), no_done);
    // What needs memory comes first: a timer that has its place can be moved without.
    done_timer_.start(Duration::max());
    deadline_timer_.start(longest);
    if (how == Draining::told) tell_timer_.start(Duration::zero());
    done_ = std::move(done);
    told_ = false;
    before_ = counts_;
    if (counts_.live == 0) done_timer_.start(Duration::zero());
}

void Drain::connection_ended() noexcept {
    if (counts_.live == 0 && done_) done_timer_.start(Duration::zero());
}

template <class Call>
void Drain::for_each_connection(Call&& call) {
    const Reactor::Workspace* const space = reactor_.workspace().get();
    if (space == nullptr) return;  // there has never been one
    reactor_.for_each_owned([&, group = group_](OwnedHandler& handler) {  // what is called may destroy this drain
        if (handler.belongs_to() != space) return;
        auto& connection = static_cast<Drainable&>(handler);
        if (group == nullptr || connection.group() == group) call(connection);
    });
}

// From the loop, as no call to a protocol may come from inside one to its transport. If one throws the others are told
// all the same.
void Drain::tell() {
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
    for_each_connection([](Drainable& connection) { connection.abort(std::make_error_code(std::errc::timed_out)); });
}

void Drain::report() {
    if (counts_.live > 0) return done_timer_.start(Duration::max());  // another has come: in the place just left
    tell_timer_.cancel();
    deadline_timer_.cancel();
    Drained drained;
    drained.cut = counts_.failed - before_.failed;
    drained.finished = counts_.ended - before_.ended - drained.cut;
    drained.bytes_cut = counts_.bytes_unsent - before_.bytes_unsent;
    MoveOnlyFunction<void(const Drained&)> done = std::move(done_);
    done(drained);  // may destroy this drain
}

void drain(Reactor& reactor, Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    Connection::Workspace& space = Connection::workspace_of(reactor);
    if (space.drain == nullptr) space.drain = std::make_unique<Drain>(reactor, space.counts, nullptr);
    space.drain->begin(longest, std::move(done), how);
    for (ConnectionGroup::Owner* owner : space.owners) owner->no_new_ones();
}

void drain(ReactorGroup& group, Duration longest, MoveOnlyFunction<void(const Drained&)> done, Draining how) {
    struct Sum {
        std::mutex mutex;
        std::size_t missing = 0;
        Drained all;
        MoveOnlyFunction<void(const Drained&)> done;

        void add(const Drained& one) {
            {
                const std::lock_guard lock(mutex);
                all.finished += one.finished;
                all.cut += one.cut;
                all.bytes_cut += one.bytes_cut;
                if (--missing > 0) return;
            }
            done(all);
        }
    };
    const auto sum = std::make_shared<Sum>();
    sum->missing = group.size();
    sum->done = required(std::move(done), no_done);
    for (std::size_t i = 0; i < group.size(); ++i) {
        Reactor& reactor = group[i];
        reactor.post([sum, &reactor, longest, how] {
            try {
                drain(reactor, longest, [sum](const Drained& drained) { sum->add(drained); }, how);
            } catch (...) {
                sum->add({});  // the others report all the same
                throw;
            }
        });
    }
}

}  // namespace reactor
