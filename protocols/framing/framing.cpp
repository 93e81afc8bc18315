// How a framing's errors read.
#include <protocols/framing/framing.hpp>

namespace reactor {

namespace {

std::string hexadecimal(std::uint64_t byte) {
    constexpr std::string_view digits = "0123456789abcdef";
    return {'0', 'x', digits[(byte >> 4) & 15], digits[byte & 15]};
}

std::string describe(const FramingError& error) {
    using Problem = FramingError::Problem;
    const std::string announced = std::to_string(error.announced);
    const std::string allowed = std::to_string(error.allowed);
    const std::string came = std::to_string(error.came);
    switch (error.problem) {
        case Problem::none: return "no error";
        case Problem::too_long:
            if (error.announced == 0) return "a message went on past the " + allowed + " bytes that are allowed";
            return "a message of " + announced + " bytes, where " + allowed + " are allowed";
        case Problem::wrong_size: return "a message of " + announced + " bytes, where each has " + allowed;
        case Problem::contains_delimiter: return "the message holds its delimiter after " + came + " bytes";
        case Problem::lacks_delimiter: return "the message does not end in its delimiter";
        case Problem::overlong_prefix: return "a length in more bytes than it needs";
        case Problem::prefix_overflow: return "a length of more than 64 bits";
        case Problem::not_a_digit: return hexadecimal(error.announced) + " where a digit or ':' was expected";
        case Problem::leading_zero: return "a length that starts with a zero";
        case Problem::too_many_digits: return "a length of more than " + allowed + " digits";
        case Problem::lacks_comma: return hexadecimal(error.announced) + " where ',' was expected";
        case Problem::ended:
            if (error.announced == 0) return "the stream ended inside a message, after " + came + " bytes of it";
            return "the stream ended inside a message, after " + came + " bytes of " + announced;
    }
    return "unknown problem";
}

}  // namespace

std::error_code FramingError::code() const noexcept {
    switch (problem) {
        case Problem::none: return {};
        case Problem::too_long: return Error::message_too_long;
        case Problem::ended: return Error::ended_inside_message;
        default: return Error::malformed;
    }
}

std::string FramingError::to_string() const {
    return std::string(framing) + ": " + describe(*this);
}

}  // namespace reactor
