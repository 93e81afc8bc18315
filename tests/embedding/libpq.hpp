// libpq's asynchronous interface driven by a reactor: connecting, queries and notifications on the loop's thread. libpq
// has one socket at a time, and may have another one after each step of connecting.
#pragma once

#include <reactor/detail/lifetime.hpp>
#include <reactor/reactor.hpp>
#include <reactor/timer.hpp>

#include <libpq-fe.h>

#include <memory>
#include <new>
#include <utility>

class PostgresConnection final : reactor::EventHandler {
public:
    using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

    /// The events of a connection. Any of these calls may destroy it.
    class Listener {
    public:
        /// Queries may be sent. `good` says whether; if not, PQerrorMessage says why not.
        virtual void connected(bool good) = 0;
        /// One result of the query under way; a null one when there are no more.
        virtual void result(Result result) = 0;
        virtual void notified(const PGnotify&) {}
        /// The server is gone.
        virtual void lost() = 0;

    protected:
        ~Listener() = default;
    };

    PostgresConnection(reactor::Reactor& reactor, const char* parameters, Listener& listener)
        : reactor_(reactor), listener_(listener), connection_(PQconnectStart(parameters), &PQfinish) {
        if (connection_ == nullptr) throw std::bad_alloc();
        PQsetnonblocking(connection_.get(), 1);
        if (PQstatus(connection_.get()) == CONNECTION_BAD) {
            refused_.start(reactor::Duration::zero());  // from the loop, like every call
        } else {
            watch(reactor::Interest::writable);  // as PQconnectPoll's documentation says: before its first call
        }
    }

    /// False if a query is under way or the connection is not good.
    bool send(const char* query) {
        if (PQsendQuery(connection_.get(), query) != 1) return false;
        under_way_ = true;
        flush();
        return true;
    }
    PGconn* get() const noexcept { return connection_.get(); }

private:
    // The descriptor is libpq's: it may have closed the last one and opened another with the same number.
    void watch(reactor::Interest interest) {
        registration_.reset();
        registration_ = reactor_.watch(PQsocket(connection_.get()), interest, *this);
    }

    void flush() {
        const bool all = PQflush(connection_.get()) == 0;
        registration_.set_interest(all ? reactor::Interest::readable
                                       : reactor::Interest::readable | reactor::Interest::writable);
    }

    void writable() override {
        if (connecting_) return connect_on();
        flush();
    }

    void readable() override {
        if (connecting_) return connect_on();
        if (PQconsumeInput(connection_.get()) != 1) {
            registration_.reset();
            return listener_.lost();
        }
        flush();
        const reactor::Lifetime::Watch watch(lifetime_);
        while (
            const std::unique_ptr<PGnotify, decltype(&PQfreemem)> notice{PQnotifies(connection_.get()), &PQfreemem}) {
            listener_.notified(*notice);
            if (watch.over()) return;
        }
        while (under_way_ && PQisBusy(connection_.get()) == 0) {
            Result result(PQgetResult(connection_.get()), &PQclear);
            under_way_ = result != nullptr;
            listener_.result(std::move(result));
            if (watch.over()) return;
        }
    }

    void connect_on() {
        switch (PQconnectPoll(connection_.get())) {
            case PGRES_POLLING_READING: return watch(reactor::Interest::readable);
            case PGRES_POLLING_WRITING: return watch(reactor::Interest::writable);
            case PGRES_POLLING_OK:
                connecting_ = false;
                watch(reactor::Interest::readable);
                return listener_.connected(true);
            default: registration_.reset(); return listener_.connected(false);
        }
    }

    reactor::Reactor& reactor_;
    Listener& listener_;
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
    reactor::Registration registration_;  // goes before the socket
    reactor::Timer refused_{reactor_, [this] { listener_.connected(false); }};
    bool connecting_ = true;
    // Not PQtransactionStatus: PQnotifies may already have parsed the end of a query whose null result was not fetched.
    bool under_way_ = false;
    reactor::Lifetime lifetime_;
};
