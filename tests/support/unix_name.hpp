// Names for Unix sockets that no test has used yet: abstract ones, and files where the system has no abstract names.
#pragma once

#include <reactor/net/address.hpp>
#include <reactor/system_impl.hpp>

#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

inline reactor::Address new_unix_name() {
    static int number = 0;
    char name[64];
#if REACTOR_HAS(ABSTRACT_NAMES)
    std::snprintf(name, sizeof name, "reactor-test-%d-%d", int(::getpid()), ++number);
    return reactor::Address::unix_abstract(name);
#else
    // A folder of the process's. Nothing here is allocated for long: some tests count that.
    static struct Folder {
        Folder() { made = ::mkdtemp(path) != nullptr; }
        ~Folder() {
            std::error_code ignored;
            if (made) std::filesystem::remove_all(path, ignored);
        }
        char path[32] = "/tmp/reactor-names-XXXXXX";
        bool made = false;
    } folder;
    std::snprintf(name, sizeof name, "%s/%d", folder.path, ++number);
    return reactor::Address::unix_path(name);
#endif
}
