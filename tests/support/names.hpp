// Name servers that a test plays. The program that links names.cpp defines getaddrinfo(3) itself, as the linker lets
// it: while a Script lives, the names that end in ".test" (RFC 6761 6.2) have the answers that it gives. All others go
// on to the C library.
#pragma once

#include <netdb.h>
#include <sys/socket.h>

#include <cstddef>
#include <initializer_list>
#include <string>

namespace names {

/// One at a time, and no look-up of its names may begin after it. From any thread.
class Script {
public:
    Script();
    /// Whoever still waits for an answer gets EAI_AGAIN; returns when the threads of all look-ups have ended.
    ~Script();
    Script(const Script&) = delete;
    Script& operator=(const Script&) = delete;

    /// From now on the name has these addresses of the family (AF_INET, AF_INET6); none: EAI_NODATA. Until then the
    /// name server is silent.
    void answer(const std::string& host, int family, std::initializer_list<const char*> addresses);
    void fail(const std::string& host, int family, int error);

    /// How often it was asked so, and with which flags the last time.
    unsigned asked(const std::string& host, int family) const;
    int flags(const std::string& host, int family) const;
    /// All questions so far, those that wait for their answers now, and the most that ever waited at once.
    unsigned asked() const;
    unsigned waiting() const;
    unsigned most_waiting() const;
    /// Returns when so many questions wait; false if that does not happen.
    bool wait_for(unsigned questions) const;
};

/// Returns when no threads are left but those with which the program began; false if that does not happen.
bool wait_for_threads_to_end();

}  // namespace names
