// A folder for a test's files and sockets, which is gone afterwards whatever happens.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

/// A folder of the test's own, gone at the end with all that is in it, also where a REQUIRE ends the test. It lies
/// below TMPDIR, unless that leaves a Unix socket in it too few of the 107 bytes that a path may have (unix(7)): then
/// below /tmp.
class TemporaryFolder {
public:
    TemporaryFolder() {
        constexpr std::size_t longest = 107, room_for_a_name = 24;
        const std::string unique = "/reactor-test-XXXXXX";
        const char* const wanted = std::getenv("TMPDIR");
        if (wanted != nullptr && std::string_view(wanted).starts_with('/')) path_ = wanted;
        if (path_.size() + unique.size() + room_for_a_name > longest) path_ = "/tmp";
        path_ += unique;
        const bool made = ::mkdtemp(path_.data()) != nullptr;
        REQUIRE_MESSAGE(made, path_, ": ", std::generic_category().message(errno));
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    std::string operator/(std::string_view file) const { return path_ + "/" + std::string(file); }

private:
    std::string path_ = "/tmp";
};
