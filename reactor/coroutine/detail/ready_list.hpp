// The ready list: coroutines that other coroutines, or callbacks, have woken. A loop has one, and resumes them behind
// its posted work, in the order in which they became ready. It is intrusive: a place in it needs no memory.
#pragma once

#include <reactor/coroutine/detail/promise.hpp>
#include <reactor/detail/internals.hpp>
#include <reactor/export.hpp>
#include <reactor/reactor.hpp>

#include <cstddef>
#include <memory>

namespace reactor::coroutine_detail {

/// A place in a list of waiting operations, and the operation's continuation. Leaves its list when it is destroyed.
class Link {
public:
    Link() noexcept = default;
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;
    ~Link() { unlink(); }

    bool linked() const noexcept { return next_ != this; }
    void unlink() noexcept {
        previous_->next_ = next_;
        next_->previous_ = previous_;
        previous_ = next_ = this;
    }

    Continuation continuation;

private:
    friend class LinkList;
    Link* previous_ = this;
    Link* next_ = this;
};

class LinkList {
public:
    LinkList() noexcept = default;
    LinkList(const LinkList&) = delete;
    LinkList& operator=(const LinkList&) = delete;
    ~LinkList() {
        while (!empty()) front().unlink();
    }

    bool empty() const noexcept { return !end_.linked(); }
    Link& front() const noexcept { return *end_.next_; }
    void push_back(Link& link) noexcept {
        link.unlink();
        link.previous_ = end_.previous_;
        link.next_ = &end_;
        end_.previous_->next_ = &link;
        end_.previous_ = &link;
    }
    /// All of `other`, behind what is here.
    void append(LinkList& other) noexcept {
        while (!other.empty()) push_back(other.front());
    }

private:
    Link end_;
};

/// Something that the list owns.
class OwnedLink : public Link {
public:
    virtual ~OwnedLink() = default;
};

class REACTOR_EXPORT ReadyList final : public Workspace {
public:
    /// So many are resumed in one iteration, at most. Those that are left come in the next one.
    static constexpr std::size_t most = 1024;

    explicit ReadyList(Reactor& reactor) noexcept : reactor_(reactor) {}
    ~ReadyList() override {
        while (!owned_.empty()) delete &static_cast<OwnedLink&>(owned_.front());
    }
    /// The loop's own; made when it is first asked for. Throws std::bad_alloc.
    static ReadyList& of(Reactor& reactor);

    /// Resumes it soon: in this iteration, or in the next one if it is beyond posted work.
    void push(Link& link) noexcept {
        ready_.push_back(link);
        Internals(reactor_).call_coroutines_at_end();
    }
    /// The same behind all that is ready now, and in another iteration if coroutines are being resumed.
    void push_behind(Link& link) noexcept {
        behind_.push_back(link);
        Internals(reactor_).call_coroutines_at_end();
    }
    /// Destroyed with the loop, unless it goes before.
    void own(std::unique_ptr<OwnedLink> owned) noexcept { owned_.push_back(*owned.release()); }

private:
    void iteration_ends() override;

    Reactor& reactor_;
    LinkList ready_, behind_, owned_;
};

}  // namespace reactor::coroutine_detail
