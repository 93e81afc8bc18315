// The signal mask that the library's own threads are made with: signals of the process come to the program's threads.
#pragma once

#include <pthread.h>

#include <csignal>
#include <initializer_list>

namespace reactor {

/// While it lives, threads that are made here have all signals blocked, but those that belong to the thread that runs:
/// a fault's, which blocked would end the process without the program's own handler, and those of processor time
/// (SIGPROF, SIGVTALRM). Linux sends a process's profiling signal to any thread that takes it: one that is blocked in
/// the loops shows a profile of the others alone.
class SignalsBlocked {
public:
    SignalsBlocked() noexcept {
        sigset_t all;
        sigfillset(&all);
        for (const int own : {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGPROF, SIGSEGV, SIGSYS, SIGTRAP, SIGVTALRM})
            sigdelset(&all, own);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

}  // namespace reactor
