// MariaDB's non-blocking client interface (libmariadb) driven by a reactor: connections and queries to MariaDB and
// MySQL on the loop's thread. libmariadb says whether it waits for its socket or a time, and is called again.
#pragma once

#include <reactor/adapters/descriptor_watch.hpp>
#include <reactor/timer.hpp>

#include <mysql.h>

#include <chrono>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace reactor::adapters {

/// One connection, with one operation at a time. Every `done` comes from the loop and may destroy this object. Thread:
/// the loop's. Errors: the constructor throws std::bad_alloc, an operation std::logic_error while another one is under
/// way; others arrive in `done`, and mysql_error has the text. Lifetime: must go before the reactor. Destroying it says
/// goodbye to the server in one small write. libmariadb blocks in three places: it looks names up, its TLS handshake
/// waits, and a further address of one host is connected to by waiting. Give an address or a Unix socket, and leave TLS
/// to a proxy. Source: "Non-blocking API" in MariaDB's manual.
class [[nodiscard]] MariaDbConnection {
public:
    using Result = std::unique_ptr<MYSQL_RES, decltype(&mysql_free_result)>;

    [[nodiscard]] explicit MariaDbConnection(Reactor& reactor)
        : reactor_(reactor),
          mysql_(mysql_init(nullptr), &mysql_close),
          socket_(reactor,
                  [this](Interest is) { go_on(is == Interest::writable ? MYSQL_WAIT_WRITE : MYSQL_WAIT_READ); }),
          timer_(reactor, [this] { go_on(MYSQL_WAIT_TIMEOUT); }) {
        if (mysql_ == nullptr) throw std::bad_alloc();
        mysql_options(mysql_.get(), MYSQL_OPT_NONBLOCK, nullptr);
    }

    /// For options, errors and escaping; not for calls that wait.
    MYSQL* get() const noexcept { return mysql_.get(); }

    /// As mysql_real_connect; the texts must last until `done`.
    void connect(const char* host, const char* user, const char* password, const char* database, unsigned port,
                 const char* unix_socket, MoveOnlyFunction<void(bool good)> done) {
        const auto step = [=, this, made = static_cast<MYSQL*>(nullptr)](int event) mutable {
            if (event != begin) return mysql_real_connect_cont(&made, get(), event);
            return mysql_real_connect_start(&made, get(), host, user, password, database, port, unix_socket, 0);
        };
        run(step, [this, done = std::move(done)]() mutable { done(mysql_errno(get()) == 0); });
    }

    /// `done` gets the whole result: null for a statement without rows, and with an error (mysql_errno).
    void query(std::string text, MoveOnlyFunction<void(Result)> done) {
        auto step = [this, text = std::move(text), failed = 0](int event) mutable {
            if (event != begin) return mysql_real_query_cont(&failed, get(), event);
            return mysql_real_query_start(&failed, get(), text.data(), text.size());
        };
        run(std::move(step), [this, done = std::move(done)]() mutable { store(std::move(done)); });
    }

    /// Any other pair of calls: `step` calls the _start function for `begin`, else the _cont one, and returns its
    /// result.
    void run(MoveOnlyFunction<int(int)> step, MoveOnlyFunction<void()> done) {
        if (step_) throw std::logic_error("MariaDbConnection: an operation is under way");
        step_ = std::move(step);
        done_ = std::move(done);
        start_ = reactor_.defer([this] { go_on(begin); });
    }
    static constexpr int begin = -1;

private:
    void store(MoveOnlyFunction<void(Result)> done) {
        if (mysql_errno(get()) != 0) return done(Result(nullptr, &mysql_free_result));
        const auto step = [this](int is) {
            return is == begin ? mysql_store_result_start(&result_, get())
                               : mysql_store_result_cont(&result_, get(), is);
        };
        run(step, [this, done = std::move(done)]() mutable { done(Result(result_, &mysql_free_result)); });
        start_.cancel();  // the rows are here already, as a rule
        go_on(begin);
    }

    void go_on(int event) {
        timer_.cancel();
        const int waits = step_(event);
        if (waits == 0) {
            socket_.set_interest(Interest::none);
            step_ = nullptr;
            return std::exchange(done_, nullptr)();
        }
        const Interest interest = interest_in((waits & MYSQL_WAIT_READ) != 0, (waits & MYSQL_WAIT_WRITE) != 0);
        // While it connects, the number may be that of another socket.
        socket_.follow(int(mysql_get_socket(get())), interest);
        if ((waits & MYSQL_WAIT_TIMEOUT) != 0)
            timer_.start(std::chrono::milliseconds(mysql_get_timeout_value_ms(get())));
    }

    Reactor& reactor_;
    std::unique_ptr<MYSQL, decltype(&mysql_close)> mysql_;
    DescriptorWatch socket_;  // goes before the connection, which closes it
    Timer timer_;
    Deferred start_;
    MoveOnlyFunction<int(int)> step_;
    MoveOnlyFunction<void()> done_;
    MYSQL_RES* result_ = nullptr;
};

}  // namespace reactor::adapters
