// The texts of errors, and Lifetime, by which a function notices that its object is gone.
#include <protocols/framing/framing.hpp>
#include <reactor/detail/lifetime.hpp>
#include <reactor/error.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <ostream>
#include <set>
#include <string>

using namespace reactor;

TEST_CASE("Each of the library's errors has a line of its own, in a category named reactor") {
    std::set<std::string> lines;
    for (const Error error : {Error::exception, Error::input_limit, Error::output_limit, Error::malformed,
                              Error::message_too_long, Error::ended_inside_message, Error::idle_timeout,
                              Error::message_timeout, Error::write_timeout, Error::close_timeout}) {
        const std::error_code code = error;
        CHECK(std::string(code.category().name()) == "reactor");
        CHECK(lines.insert(code.message()).second);
        CHECK(code.message().find('\n') == std::string::npos);
        CHECK(code.message().find("unknown") == std::string::npos);
    }
    CHECK(std::error_code(Error::write_timeout) == std::errc::timed_out);
    CHECK(std::error_code(Error::malformed) != std::errc::timed_out);
    CHECK(std::error_code(4711, error_category()).message() == "unknown error 4711");
}

TEST_CASE("Each problem of a framing has a line of its own") {
    using Problem = FramingError::Problem;
    std::set<std::string> lines;
    for (int problem = int(Problem::none); problem <= int(Problem::ended); ++problem) {
        const std::string line = FramingError{Problem(problem), "framing", 1, 2, 3}.to_string();
        CAPTURE(line);
        CHECK(lines.insert(line).second);
        CHECK(line.starts_with("framing: "));
        CHECK(line.find("unknown") == std::string::npos);
    }
    CHECK(FramingError{Problem(int(Problem::ended) + 1), "framing", 1, 2, 3}.to_string() == "framing: unknown problem");
}

TEST_CASE("Every function that watches over an object's life is told of its end, whichever of them caused it") {
    std::optional<Lifetime> object(std::in_place);
    const Lifetime::Watch outermost(*object);
    bool inner_over = false, in_between_over = false;
    {
        const Lifetime::Watch in_between(*object);
        {
            const Lifetime::Watch inner(*object);
            {
                const Lifetime::Watch innocent(*object);
                CHECK_FALSE(innocent.over());
            }
            object.reset();
            inner_over = inner.over();
        }
        in_between_over = in_between.over();
    }
    CHECK(inner_over);
    CHECK(in_between_over);
    CHECK(outermost.over());
}
