// The program's standard streams, for tests that close or replace them.
#pragma once

#include <reactor/file_descriptor.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

/// Puts the descriptors 0 to 2 back at its end. No doctest macro may be used while it lives, because doctest writes
/// there.
class KeptStandardStreams {
public:
    KeptStandardStreams() {
        std::fflush(stdout);
        for (int number = 0; number < 3; ++number) kept_[number].reset(::fcntl(number, F_DUPFD_CLOEXEC, 20));
    }
    ~KeptStandardStreams() {
        for (int number = 0; number < 3; ++number) ::dup2(kept_[number].get(), number);
    }
    KeptStandardStreams(const KeptStandardStreams&) = delete;
    KeptStandardStreams& operator=(const KeptStandardStreams&) = delete;

    static void close_all() noexcept {
        for (int number = 0; number < 3; ++number) ::close(number);
    }

private:
    reactor::FileDescriptor kept_[3];
};
