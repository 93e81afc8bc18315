// The table of registrations: for each descriptor its handlers, their interest, the generation of the number, and the
// interest that the backend knows. A number finds its row at once, also if it was closed and used again. The loop, in
// reactor.cpp, calls the handlers.
#pragma once

#include <reactor/demultiplexer.hpp>
#include <reactor/event_handler.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>
#include <reactor/registration.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

namespace reactor {

// A call that is due without an event of the backend.
struct Reactor::Trigger {
    Token token;  // the generation is the registration's id
    Condition condition;
    std::error_code error;  // with `invalid`
};

class REACTOR_INTERNAL Reactor::Table {
public:
    // One registration: of several for one descriptor, or as `find` gives it.
    struct Watch {
        EventHandler* handler = nullptr;
        std::uint32_t id = 0;
        Interest wanted = Interest::none;
        bool owned = false;
        bool lost = false;
    };

    // One descriptor. With a single registration, the normal case, it is all here, and its id is the generation.
    // With several, `handler` is null, the watches are in shared_, and `wanted` is the union of their interests.
    struct Slot {
        EventHandler* handler = nullptr;
        std::uint32_t generation = 0;  // the backend's events must carry it; 0: unwatched
        Interest wanted = Interest::none;
        Interest submitted = Interest::none;  // the interest that the backend knows
        Interest direct = Interest::none;     // goes straight to `handler`: `wanted`, if there is one watch
        enum class Kind : std::uint8_t { plain, shared, lost } kind : 2 = Kind::plain;
        bool owned : 1 = false;
        bool changed : 1 = false;   // stands in changes_
        bool resubmit : 1 = false;  // the interest is submitted even if nothing seems to have changed

        void set_wanted(Interest interest) noexcept {
            wanted = interest;
            direct = kind == Kind::plain ? interest : Interest::none;
        }
        void set_kind(Kind what) noexcept {
            kind = what;
            set_wanted(wanted);
        }
        bool shared() const noexcept { return kind == Kind::shared; }
        bool lost() const noexcept { return kind == Kind::lost; }
    };
    static_assert(sizeof(void*) != 8 || sizeof(Slot) == 16, "a million descriptors are 16 MB of table");

    explicit Table(std::unique_ptr<Demultiplexer> demultiplexer) noexcept : demultiplexer_(std::move(demultiplexer)) {}

    Demultiplexer& demultiplexer() const noexcept { return *demultiplexer_; }

    // Throws what Reactor::watch does. Returns the registration's id.
    std::uint32_t add(int descriptor, Interest interest, EventHandler& handler, bool owned);
    // Takes a registration out and returns its handler if the reactor owned it.
    OwnedHandler* remove(int descriptor, std::uint32_t id) noexcept;
    // Takes all of them out and destroys those handlers.
    void clear() noexcept;

    void set_interest(int descriptor, std::uint32_t id, Interest interest) noexcept;
    // It stays in the table, but nothing comes of it any more.
    void lose(int descriptor, std::uint32_t id) noexcept;

    // For a descriptor that was watched at some time.
    const Slot& slot(int descriptor) const noexcept { return slots_[std::size_t(descriptor)]; }
    // The registration with this id, or one without a handler.
    Watch find(int descriptor, std::uint32_t id) noexcept;
    // Of a shared descriptor.
    std::vector<Watch>& watches(int descriptor) noexcept { return shared_.find(descriptor)->second; }
    void visit_owned(void (*visit)(void*, OwnedHandler&), void* with);
    // Is any descriptor but this one watched for something?
    bool watches_besides(int descriptor) const noexcept;

    // Is there a change that the backend does not know?
    bool changed() const noexcept { return !changes_.empty(); }
    // Submits the changes. Refused registrations are appended to `refused`, so that their handlers are called.
    void hand_over_changes(std::vector<Trigger>& refused);
    // The backend begins anew, or is replaced by a new one of the same name, to which everything is submitted anew. The
    // old one gets no removals.
    void replace_demultiplexer(bool forked);

    std::uint64_t changes_handed_over() const noexcept { return changes_handed_over_; }
    // Of generations, which may leave events of theirs in the batch.
    std::uint64_t removals() const noexcept { return removals_; }

private:
    std::uint32_t next_id() noexcept;
    void share(int descriptor);
    Watch* find_shared(int descriptor, std::uint32_t id) noexcept;
    void update_union(int descriptor) noexcept;
    void note_change(int descriptor) noexcept;
    void hand_over(int descriptor, std::vector<Trigger>& refused);
    void refuse(int descriptor, std::error_code reason, std::vector<Trigger>& refused);

    std::unique_ptr<Demultiplexer> demultiplexer_;
    std::vector<Slot> slots_;
    std::unordered_map<int, std::vector<Watch>> shared_;
    std::vector<int> changes_;
    std::uint32_t last_id_ = 0;
    std::uint64_t removals_ = 0;
    std::uint64_t changes_handed_over_ = 0;
};

}  // namespace reactor
