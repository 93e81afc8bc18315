// The lines of a head, each looked at in one pass from its first character: the scan that finds its end also finds the
// first character that may not be there. The parser (head.cpp) puts them together.
#pragma once

#include <protocols/http/field.hpp>
#include <protocols/http/head.hpp>
#include <protocols/http/head_meaning_impl.hpp>
#include <protocols/http/problem.hpp>
#include <protocols/http/scan_impl.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace reactor::http::head_detail {

/// Is this token the lower-case word, apart from the case of its letters? It has the word's length. A character of a
/// token with the bit of the lower case set is the word's only if it is that letter, digit or "-".
template <std::size_t with_nul>
inline bool is_word(const char* token, const char (&lower)[with_nul]) noexcept {
    constexpr std::size_t size = with_nul - 1;
    using Part = std::conditional_t<size >= 8, std::uint64_t, std::uint32_t>;
    const auto differ = [&](std::size_t at) noexcept {
        Part part, wanted;
        std::memcpy(&part, token + at, sizeof part);
        std::memcpy(&wanted, lower + at, sizeof wanted);
        return (part | static_cast<Part>(0x2020202020202020)) ^ wanted;
    };
    Part different = differ(size - sizeof(Part));  // the last part overlaps the one before it
    for (std::size_t at = 0; at + sizeof(Part) < size; at += sizeof(Part)) different |= differ(at);
    return different == 0;
}

/// The same where most tokens of that length differ in the first letter.
template <std::size_t with_nul>
inline bool is_named(std::string_view name, const char (&lower)[with_nul]) noexcept {
    return (name[0] | 0x20) == lower[0] && is_word(name.data(), lower);
}

/// The fields that matter here, found by their length first. `readable`: of the input that the field is in.
template <class AnyHead>
inline Problem understand(const Field& field, scan::End readable, AnyHead& head, Meaning& meaning) noexcept {
    constexpr bool request = std::is_same_v<AnyHead, RequestHead>;
    switch (field.name.size()) {
        case 4:
            if constexpr (request) {
                if (!is_word(field.name.data(), "host")) break;
                if (meaning.has(Meaning::host_field)) return Problem::repeated_host;
                if (!is_host(field.value, readable)) return Problem::bad_host;
                meaning.note(Meaning::host_field);
                if (head.host.empty()) head.host = field.value;  // an absolute target goes before it
            }
            break;
        case 6:
            if constexpr (request) {
                if (!is_named(field.name, "expect")) break;
                if (!same_token(field.value, "100-continue")) return Problem::bad_expectation;
                head.expects_continue = true;
            }
            break;
        case 7:
            if (is_named(field.name, "upgrade")) meaning.upgrade = field.value;
            break;
        case 10:
            if (is_named(field.name, "connection")) understand_connection(field.value, meaning);
            break;
        case 14:
            if (is_named(field.name, "content-length")) return understand_length(field.value, head, meaning);
            break;
        case 17:
            if (is_named(field.name, "transfer-encoding")) return understand_coding(field.value, head, meaning);
            break;
        default: break;
    }
    return Problem::none;
}

inline Problem understand(const Field& field, scan::End, Trailer&, Meaning&) noexcept {
    return understand_trailer(field);
}

/// The outcome of one line, or of several.
struct Outcome {
    enum class Kind : std::uint8_t { incomplete, line, empty_line, refused };
    Kind kind = Kind::line;
    Problem problem = Problem::none;

    static constexpr Outcome incomplete() noexcept { return {Kind::incomplete, Problem::none}; }
    static constexpr Outcome refused(Problem problem) noexcept { return {Kind::refused, problem}; }
    static constexpr Outcome unless(Problem problem) noexcept {
        return problem == Problem::none ? Outcome{} : refused(problem);
    }
    bool is_line() const noexcept { return kind == Kind::line; }
};

inline bool is_blank(char character) noexcept {
    return character == ' ' || character == '\t';
}

/// Where the text ends. If its last character is a line feed, it is `whole_lines`: no scan passes that character, so
/// none has to ask for the end.
template <bool whole_lines>
struct Bounds : scan::End {
    explicit Bounds(std::string_view text) noexcept : End(text.data(), text.data() + text.size()) {}

    bool is_end(const char* at) const noexcept { return !whole_lines && at == end; }
};

/// The line is over at `stop`, or refused: `otherwise` if another character is there.
template <bool whole_lines>
inline Outcome line_end(const char* stop, Bounds<whole_lines> bounds, Problem otherwise) noexcept {
    if (bounds.is_end(stop)) return Outcome::incomplete();
    if (*stop != '\r') return Outcome::refused(*stop == '\n' ? Problem::bare_line_feed : otherwise);
    if (bounds.is_end(stop + 1)) return Outcome::incomplete();
    return Outcome::unless(stop[1] == '\n' ? Problem::none : Problem::bare_carriage_return);
}

/// Field after field, from `at` on. All of it is compiled into one loop, so that its state lies in registers.
template <class AnyHead, bool whole_lines>
class FieldLines {
public:
    /// `known`: so many fields are in `room` already.
    FieldLines(std::string_view text, AnyHead& head, std::span<Field> room, std::size_t known,
               Meaning& meaning) noexcept
        : at_(text.data()),
          bounds_(text),
          next_(room.data() + known),
          room_end_(room.data() + room.size()),
          head_(head),
          meaning_(meaning) {}

    /// Where the line begins that was not complete; behind the empty one.
    const char* at() const noexcept { return at_; }
    const Field* next() const noexcept { return next_; }

    /// All lines up to one that is no field.
    [[gnu::always_inline]] Outcome all() noexcept {
        Outcome outcome;
        do outcome = one();
        while (outcome.is_line());
        return outcome;
    }

private:
    [[gnu::always_inline]] Outcome one() noexcept {
        const char* const begin = at_;
        const char* const end = bounds_.end;
        if (begin == end) return Outcome::incomplete();
        const char* colon = scan::past_word<false>(begin, bounds_);
        if (bounds_.is_end(colon)) return Outcome::incomplete();
        if (*colon != ':') {
            colon = scan::past(colon, end, scan::token);
            if (colon == begin) return no_field();
            if (bounds_.is_end(colon)) return Outcome::incomplete();
            if (*colon != ':') return Outcome::refused(in_name(*colon));
        }
        if (colon == begin) return Outcome::refused(Problem::bad_field_name);
        const char* value = colon + 1;
        if (!bounds_.is_end(value) && *value == ' ') ++value;
        if (!bounds_.is_end(value) && may_be_blank(*value)) {
            while (value != end && is_blank(*value)) ++value;
        }
        const char* const stop = scan::past_value(value, bounds_);
        if (const Outcome outcome = line_end(stop, bounds_, Problem::bad_field_value); !outcome.is_line()) {
            return outcome;
        }
        const char* last = stop;
        if (may_be_blank(last[-1])) {  // at least the colon is there
            while (last != value && is_blank(last[-1])) --last;
        }
        if (next_ == room_end_) return Outcome::refused(Problem::too_many_fields);
        at_ = stop + 2;
        const Field field{{begin, std::size_t(colon - begin)}, {value, std::size_t(last - value)}};
        *next_++ = field;
        return Outcome::unless(understand(field, bounds_, head_, meaning_));
    }

    /// The line does not begin with a name.
    Outcome no_field() noexcept {
        if (is_blank(*at_)) return Outcome::refused(Problem::folded_line);
        const Outcome outcome = line_end(at_, bounds_, Problem::bad_field_name);
        if (!outcome.is_line()) return outcome;
        at_ += 2;
        return {Outcome::Kind::empty_line, Problem::none};
    }

    static Problem in_name(char character) noexcept {
        if (character == '\n') return Problem::bare_line_feed;
        return is_blank(character) ? Problem::space_before_colon : Problem::bad_field_name;
    }

    static bool may_be_blank(char character) noexcept { return static_cast<unsigned char>(character) <= ' '; }

    const char* at_;
    const Bounds<whole_lines> bounds_;
    Field* next_;
    Field* const room_end_;
    AnyHead& head_;
    Meaning& meaning_;
};

inline Problem in_start_line(char character, Problem otherwise) noexcept {
    if (character == '\n') return Problem::bare_line_feed;
    return character == '\r' ? Problem::bad_start_line : otherwise;
}

/// HTTP-version at `begin`, followed by something else.
inline Outcome version(const char* begin, const char* end, Head& head) noexcept {
    static constexpr std::string_view form = "HTTP/d.d", usual = "HTTP/1.1";
    head.minor_version = 1;
    if (end - begin >= 8 && std::memcmp(begin, usual.data(), usual.size()) == 0) return {};
    for (std::size_t place = 0; place < form.size(); ++place) {
        if (begin + place == end) return Outcome::incomplete();
        const char character = begin[place];
        const bool fits = form[place] == 'd' ? character >= '0' && character <= '9' : character == form[place];
        if (!fits) return Outcome::refused(character == '\n' ? Problem::bare_line_feed : Problem::bad_version);
    }
    if (begin[5] != '1') return Outcome::refused(Problem::unsupported_version);
    head.minor_version = begin[7] == '0' ? 0 : 1;
    return {};
}

/// The first line of a request. `at`: then where the next begins.
template <bool whole_lines>
[[gnu::always_inline]] inline Outcome start_line(std::string_view text, const char*& at, RequestHead& head) noexcept {
    const Bounds<whole_lines> bounds(text);
    const char* const begin = text.data();
    const char* const end = bounds.end;
    const char* method_end = scan::past_word<false>(begin, bounds);
    if (method_end == end) return Outcome::incomplete();
    if (*method_end != ' ' || method_end == begin) {
        method_end = scan::past(method_end, end, scan::token);
        if (bounds.is_end(method_end)) return Outcome::incomplete();
        if (*method_end != ' ' || method_end == begin) {
            return Outcome::refused(in_start_line(*method_end, Problem::bad_method));
        }
    }
    const char* const target = method_end + 1;
    const char* path_end = scan::past_word<true>(target, bounds);
    const char* target_end = path_end;
    if (bounds.is_end(target_end)) return Outcome::incomplete();
    if (*target_end != ' ' || target_end == target) {
        path_end = target_end = scan::past(path_end, end, scan::path);
        if (!bounds.is_end(target_end) && *target_end == '?') target_end = scan::past(path_end, end, scan::target);
        if (bounds.is_end(target_end)) return Outcome::incomplete();
        if (*target_end != ' ' || target_end == target) {
            return Outcome::refused(in_start_line(*target_end, Problem::bad_target));
        }
    }
    if (const Outcome outcome = version(target_end + 1, end, head); !outcome.is_line()) return outcome;
    const Outcome outcome = line_end(target_end + 9, bounds, Problem::bad_version);
    if (!outcome.is_line()) return outcome;
    at = target_end + 11;
    head.method = {begin, std::size_t(method_end - begin)};
    head.target = {target, std::size_t(target_end - target)};
    return Outcome::unless(understand_target(head, std::size_t(path_end - target)));
}

/// The first line of a response. The space behind the status may be missing where there is no reason: many servers send
/// no such space, and no two readers differ about the line.
template <bool whole_lines>
inline Outcome start_line(std::string_view text, const char*& at, ResponseHead& head) noexcept {
    const Bounds<whole_lines> bounds(text);
    const char* const begin = text.data();
    const char* const end = bounds.end;
    if (const Outcome outcome = version(begin, end, head); !outcome.is_line()) return outcome;
    const char* const status = begin + 9;
    if (bounds.is_end(begin + 8)) return Outcome::incomplete();
    if (begin[8] != ' ') return Outcome::refused(in_start_line(begin[8], Problem::bad_version));
    int number = 0;
    for (const char* digit = status; digit != status + 3; ++digit) {
        if (bounds.is_end(digit)) return Outcome::incomplete();
        if (*digit < '0' || *digit > '9') return Outcome::refused(in_start_line(*digit, Problem::bad_status));
        number = number * 10 + (*digit - '0');
    }
    if (number < 100 || number > 599) return Outcome::refused(Problem::bad_status);
    head.status = number;
    const char* reason = status + 3;
    if (bounds.is_end(reason)) return Outcome::incomplete();
    if (*reason == ' ') {
        ++reason;
    } else if (*reason != '\r') {
        return Outcome::refused(in_start_line(*reason, Problem::bad_status));
    }
    const char* const stop = scan::past_value(reason, bounds);
    head.reason = {reason, std::size_t(stop - reason)};
    at = stop + 2;
    return line_end(stop, bounds, Problem::bad_start_line);
}

/// A trailer has none.
template <bool whole_lines>
inline Outcome start_line(std::string_view, const char*&, Trailer&) noexcept {
    return {};
}

}  // namespace reactor::http::head_detail
