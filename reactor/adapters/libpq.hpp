// libpq's asynchronous interface driven by a reactor: connecting, queries and notifications on the loop's thread. libpq
// has one socket at a time, and may have another one after each step of connecting.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/detail/lifetime.hpp>

#include <libpq-fe.h>

#include <memory>
#include <new>
#include <utility>

namespace reactor::adapters {

/// One connection to PostgreSQL. Thread: the loop's. Errors: the constructor throws std::bad_alloc; others arrive in
/// the listener, and PQerrorMessage has their text. Lifetime: must go before the reactor; any call of the listener may
/// destroy it. A host that is a name is looked up by PQconnectStart, which blocks: give `hostaddr`.
/// Source: "Asynchronous Command Processing" in PostgreSQL's manual.
class [[nodiscard]] PostgresConnection {
public:
    using Result = std::unique_ptr<PGresult, decltype(&PQclear)>;

    /// Implemented by the program, to be called with results and notifications. All calls come from the loop.
    class Listener {
    public:
        /// Queries may be sent if `good`.
        virtual void connected(bool good) = 0;
        /// One result of the query under way; a null one when there are no more.
        virtual void result(Result result) = 0;
        virtual void notified(const PGnotify&) {}
        /// The server has closed the connection.
        virtual void lost() = 0;

    protected:
        ~Listener() = default;
    };

    [[nodiscard]] PostgresConnection(Reactor& reactor, const char* parameters, Listener& listener)
        : listener_(listener),
          connection_(PQconnectStart(parameters), &PQfinish),
          socket_(reactor, [this](Interest ready) { connecting_ ? connect_on() : act(ready); }) {
        if (connection_ == nullptr) throw std::bad_alloc();
        PQsetnonblocking(get(), 1);
        if (PQstatus(get()) == CONNECTION_BAD) {
            refused_ = reactor.defer([this] { listener_.connected(false); });
        } else {
            watch(Interest::writable);  // as PQconnectPoll's documentation says: before its first call
        }
    }

    /// False if a query is under way or the connection is not good.
    bool send(const char* query) {
        if (PQsendQuery(get(), query) != 1) return false;
        under_way_ = true;
        flush();
        return true;
    }
    PGconn* get() const noexcept { return connection_.get(); }

private:
    // libpq may have closed the last socket, and opened another one with the same number.
    void watch(Interest interest) { socket_.watch(PQsocket(get()), interest); }

    void flush() { socket_.set_interest(interest_in(true, PQflush(get()) != 0)); }

    void connect_on() {
        switch (PQconnectPoll(get())) {
            case PGRES_POLLING_READING: return watch(Interest::readable);
            case PGRES_POLLING_WRITING: return watch(Interest::writable);
            case PGRES_POLLING_OK:
                connecting_ = false;
                watch(Interest::readable);
                return listener_.connected(true);
            default: return socket_.reset(), listener_.connected(false);
        }
    }

    void act(Interest ready) {
        if (ready == Interest::writable) return flush();
        if (PQconsumeInput(get()) != 1) return socket_.reset(), listener_.lost();
        flush();
        const Lifetime::Watch watch(lifetime_);
        while (const std::unique_ptr<PGnotify, decltype(&PQfreemem)> notice{PQnotifies(get()), &PQfreemem}) {
            listener_.notified(*notice);
            if (watch.over()) return;
        }
        while (under_way_ && PQisBusy(get()) == 0) {
            Result result(PQgetResult(get()), &PQclear);
            under_way_ = result != nullptr;
            listener_.result(std::move(result));
            if (watch.over()) return;
        }
    }

    Listener& listener_;
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
    DescriptorWatch socket_;  // goes before the connection, which closes it
    Deferred refused_;
    bool connecting_ = true;
    // Not PQtransactionStatus: PQnotifies may already have parsed the end of a query whose null result was not fetched.
    bool under_way_ = false;
    Lifetime lifetime_;
};

}  // namespace reactor::adapters
