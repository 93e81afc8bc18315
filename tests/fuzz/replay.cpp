// Runs a fuzzer's corpus as an ordinary test, with any compiler, so that an old fault is found again.
#include "fuzz.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

TEST_CASE("every input of the corpus keeps what the fuzzer checks") {
    const char* folder = std::getenv("FUZZ_CORPUS");
    REQUIRE(folder != nullptr);
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    REQUIRE(!files.empty());
    for (const auto& path : files) {
        INFO(path.string());
        std::ifstream file(path, std::ios::binary);
        REQUIRE(file);
        const std::string text{std::istreambuf_iterator<char>(file), {}};
        // A copy of exactly this size, so that a sanitizer sees a read past the end.
        const std::vector<std::uint8_t> bytes(text.begin(), text.end());
        CHECK(LLVMFuzzerTestOneInput(bytes.data(), bytes.size()) == 0);
        // Cut short, an input is another one.
        for (std::size_t size = 0; size < std::min<std::size_t>(bytes.size(), 16); ++size)
            CHECK(LLVMFuzzerTestOneInput(bytes.data(), size) == 0);
    }
}
