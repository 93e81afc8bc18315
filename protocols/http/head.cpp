// Each line is parsed in one pass from its first character: the scan that finds its end also finds the first character
// that may not be there. If the input ends inside a line, the parser remembers where the line begins. It then looks for
// the line's end alone in further input, and parses the line when that is there. The whole head is parsed again, once,
// when it is complete, because the views into earlier inputs are no longer valid.
#include <protocols/http/head.hpp>

#include <protocols/http/head_meaning_impl.hpp>
#include <protocols/http/scan_impl.hpp>

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>

namespace reactor::http {

namespace {

using namespace head_detail;

/// Is the name of a field this one? Its length is known to be right; most names of that length differ in the first
/// letter.
inline bool is_named(std::string_view name, std::string_view lower) noexcept {
    return (name[0] | 0x20) == lower[0] && same_token(name, lower);
}

/// The fields that matter here, found by their length first. `readable`: up to there is memory of the input.
template <class AnyHead>
inline Problem understand(const Field& field, const char* readable, AnyHead& head, Meaning& meaning) noexcept {
    constexpr bool request = std::is_same_v<AnyHead, RequestHead>;
    switch (field.name.size()) {
        case 4:
            if (!request || !is_named(field.name, "host")) break;
            if (meaning.has(Meaning::host_field)) return Problem::repeated_host;
            if (!is_host(field.value, readable)) return Problem::bad_host;
            meaning.note(Meaning::host_field);
            meaning.host = field.value;
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

Problem understand(const Field& field, const char*, Trailer&, Meaning&) noexcept {
    return understand_trailer(field);
}

/// One pass over lines in [at, end).
template <class AnyHead>
class Lines {
public:
    /// `known`: so many fields are in `room` already.
    Lines(AnyHead& head, std::span<Field> room, std::size_t known, Meaning& meaning) noexcept
        : head_(head), room_(room), fields_(known), meaning_(meaning) {}

    /// The next line begins where `text` does.
    void look_at(std::string_view text) noexcept {
        at_ = text.data();
        end_ = at_ + text.size();
    }

    enum class Outcome : std::uint8_t { incomplete, line, empty_line, refused };

    const char* at() const noexcept { return at_; }
    const char* end() const noexcept { return end_; }
    Problem problem() const noexcept { return problem_; }
    std::size_t fields() const noexcept { return fields_; }

    Outcome start_line() noexcept {
        if constexpr (std::is_same_v<AnyHead, RequestHead>) return request_line();
        if constexpr (std::is_same_v<AnyHead, ResponseHead>) return status_line();
        return Outcome::line;
    }

    /// All lines up to one that is no field.
    Outcome field_lines() noexcept {
        Outcome outcome;
        do outcome = field_line();
        while (outcome == Outcome::line);
        return outcome;
    }

    Outcome field_line() noexcept {
        const char* const begin = at_;
        const char* const colon = scan::past(scan::past_word<2>(begin, end_), end_, scan::token);
        if (colon == end_) return Outcome::incomplete;
        if (*colon != ':') return colon == begin ? no_field(colon) : refuse(in_name(*colon));
        if (colon == begin) return refuse(Problem::bad_field_name);
        const char* value = colon + 1;
        while (value != end_ && (*value == ' ' || *value == '\t')) ++value;
        const char* const stop = scan::past_value(value, end_);
        const Outcome outcome = line_end(stop, Problem::bad_field_value);
        if (outcome != Outcome::line) return outcome;
        const char* last = stop;
        while (last != value && (last[-1] == ' ' || last[-1] == '\t')) --last;
        const Field field{{begin, std::size_t(colon - begin)}, {value, std::size_t(last - value)}};
        if (fields_ == room_.size()) return refuse(Problem::too_many_fields);
        room_[fields_++] = field;
        return refuse_if(understand(field, end_, head_, meaning_));
    }

private:
    Outcome refuse(Problem problem) noexcept {
        problem_ = problem;
        return Outcome::refused;
    }
    Outcome refuse_if(Problem problem) noexcept { return problem == Problem::none ? Outcome::line : refuse(problem); }

    /// The line is over at `stop`, or refused: `problem` if another character is there.
    Outcome line_end(const char* stop, Problem problem) noexcept {
        if (stop == end_) return Outcome::incomplete;
        if (*stop == '\n') return refuse(Problem::bare_line_feed);
        if (*stop != '\r') return refuse(problem);
        if (stop + 1 == end_) return Outcome::incomplete;
        if (stop[1] != '\n') return refuse(Problem::bare_carriage_return);
        at_ = stop + 2;
        return Outcome::line;
    }

    /// The line does not begin with a name.
    Outcome no_field(const char* first) noexcept {
        if (*first == ' ' || *first == '\t') return refuse(Problem::folded_line);
        const Outcome outcome = line_end(first, Problem::bad_field_name);
        return outcome == Outcome::line ? Outcome::empty_line : outcome;
    }

    static Problem in_name(char character) noexcept {
        if (character == '\n') return Problem::bare_line_feed;
        return character == ' ' || character == '\t' ? Problem::space_before_colon : Problem::bad_field_name;
    }

    /// HTTP-version at `begin`, followed by `after`. The version of a request is followed by the line's end.
    Outcome version(const char* begin) noexcept {
        static constexpr std::string_view form = "HTTP/d.d", usual = "HTTP/1.1";
        head_.minor_version = 1;
        if (end_ - begin >= 8 && std::memcmp(begin, usual.data(), usual.size()) == 0) return Outcome::line;
        for (std::size_t place = 0; place < form.size(); ++place) {
            if (begin + place == end_) return Outcome::incomplete;
            const char character = begin[place];
            const bool fits = form[place] == 'd' ? character >= '0' && character <= '9' : character == form[place];
            if (!fits) return refuse(character == '\n' ? Problem::bare_line_feed : Problem::bad_version);
        }
        if (begin[5] != '1') return refuse(Problem::unsupported_version);
        head_.minor_version = begin[7] == '0' ? 0 : 1;
        return Outcome::line;
    }

    Outcome request_line() noexcept {
        if constexpr (std::is_same_v<AnyHead, RequestHead>) {
            const char* const method_end = scan::past(at_, end_, scan::token);
            if (method_end == end_) return Outcome::incomplete;
            if (*method_end != ' ' || method_end == at_) return refuse(in_start_line(*method_end, Problem::bad_method));
            const char* const target = method_end + 1;
            const char* const target_end = scan::past(scan::past_word<3>(target, end_), end_, scan::target);
            if (target_end == end_) return Outcome::incomplete;
            if (*target_end != ' ' || target_end == target) {
                return refuse(in_start_line(*target_end, Problem::bad_target));
            }
            if (const Outcome outcome = version(target_end + 1); outcome != Outcome::line) return outcome;
            head_.method = {at_, std::size_t(method_end - at_)};
            head_.target = {target, std::size_t(target_end - target)};
            const Outcome outcome = line_end(target_end + 9, Problem::bad_version);
            return outcome == Outcome::line ? refuse_if(understand_target(head_)) : outcome;
        }
        return Outcome::refused;
    }

    /// The space behind the status may be missing where there is no reason: many servers send no such space, and no
    /// two readers differ about the line.
    Outcome status_line() noexcept {
        if constexpr (std::is_same_v<AnyHead, ResponseHead>) {
            if (const Outcome outcome = version(at_); outcome != Outcome::line) return outcome;
            const char* const status = at_ + 9;
            if (at_ + 8 == end_) return Outcome::incomplete;
            if (at_[8] != ' ') return refuse(in_start_line(at_[8], Problem::bad_version));
            int number = 0;
            for (const char* digit = status; digit != status + 3; ++digit) {
                if (digit == end_) return Outcome::incomplete;
                if (*digit < '0' || *digit > '9') return refuse(in_start_line(*digit, Problem::bad_status));
                number = number * 10 + (*digit - '0');
            }
            if (number < 100 || number > 599) return refuse(Problem::bad_status);
            head_.status = number;
            const char* reason = status + 3;
            if (reason == end_) return Outcome::incomplete;
            if (*reason == ' ') {
                ++reason;
            } else if (*reason != '\r') {
                return refuse(in_start_line(*reason, Problem::bad_status));
            }
            const char* const stop = scan::past_value(reason, end_);
            head_.reason = {reason, std::size_t(stop - reason)};
            return line_end(stop, Problem::bad_start_line);
        }
        return Outcome::refused;
    }

    static Problem in_start_line(char character, Problem otherwise) noexcept {
        if (character == '\n') return Problem::bare_line_feed;
        return character == '\r' ? Problem::bad_start_line : otherwise;
    }

    const char* at_ = nullptr;
    const char* end_ = nullptr;
    AnyHead& head_;
    const std::span<Field> room_;
    std::size_t fields_;
    Meaning& meaning_;
    Problem problem_ = Problem::none;
};

Parsed refused(Problem problem) noexcept {
    return {Parsed::State::refused, problem, 0};
}

}  // namespace

template <class AnyHead>
Parsed HeadParser::parse(Bytes input, AnyHead& head, const HeadLimits& limits) noexcept {
    constexpr bool has_start_line = !std::is_same_v<AnyHead, Trailer>;
    using Outcome = typename Lines<AnyHead>::Outcome;
    std::string_view text = text_of(input);
    std::size_t skipped = 0;
    if (std::is_same_v<AnyHead, RequestHead> && text.starts_with('\r')) {
        if (text.size() == 1) return {};
        if (text[1] != '\n') return refused(Problem::bare_carriage_return);
        skipped = 2;
    }
    // One byte more than is allowed is looked at, to know that there is one.
    text = text.substr(skipped, std::size_t(limits.head) + 1);
    const std::span<Field> room(reinterpret_cast<Field*>(head.room_),
                                std::min<std::size_t>(limits.fields, Head::most_fields));
    const auto is_start_line = [](std::uint32_t line) { return has_start_line && line == 0; };
    // `end`: where the line that was just looked at ends, or the input.
    const auto too_long = [&](std::uint32_t line, std::size_t end) noexcept {
        if (is_start_line(line) && end > limits.start_line) return Problem::start_line_too_long;
        return end > limits.head ? Problem::head_too_long : Problem::none;
    };

    // The line that was not complete: is it now? It ends with a control character, or is refused for it.
    while (searched_ != 0) {
        const char* const stop = scan::past_value(text.data() + searched_, text.data() + text.size());
        const auto found = static_cast<std::size_t>(stop - text.data());
        const bool to_come = found == text.size() || (*stop == '\r' && found + 1 == text.size());
        const std::size_t end = to_come ? text.size() : found + (*stop == '\r' ? 2 : 1);
        const Problem problem = too_long(lines_, end);
        if (to_come && problem == Problem::none) {
            searched_ = static_cast<std::uint32_t>(found);
            return {};
        }
        Meaning meaning;
        meaning.seen = seen_;
        Lines<AnyHead> lines(head, room, lines_ - std::size_t(has_start_line && lines_ != 0), meaning);
        const bool first = is_start_line(lines_);
        lines.look_at(text.substr(line_, first ? std::size_t(limits.start_line) + 1 : text.size()));
        const Outcome outcome = first ? lines.start_line() : lines.field_line();
        if (outcome == Outcome::refused) return refused(lines.problem());
        if (problem != Problem::none) return refused(problem);
        if (outcome == Outcome::empty_line) {
            searched_ = 0;  // then all of it, once
            break;
        }
        ++lines_;
        seen_ = meaning.seen;
        line_ = searched_ = static_cast<std::uint32_t>(end);
    }

    head.reset();
    Meaning meaning;
    Lines<AnyHead> lines(head, room, 0, meaning);
    std::uint16_t line = 0;
    Outcome outcome = Outcome::line;
    if (has_start_line) {
        lines.look_at(text.substr(0, std::size_t(limits.start_line) + 1));
        outcome = lines.start_line();
    }
    if (outcome == Outcome::line) {
        const auto start = has_start_line ? static_cast<std::size_t>(lines.at() - text.data()) : 0;
        if (has_start_line && start > limits.start_line) return refused(Problem::start_line_too_long);
        lines.look_at(text.substr(start));
        outcome = lines.field_lines();
        line = static_cast<std::uint16_t>(lines.fields() + has_start_line);
    }
    if (outcome == Outcome::refused) return refused(lines.problem());
    const auto begin = static_cast<std::size_t>(lines.at() - text.data());  // of the line that is incomplete
    const std::size_t end =
        outcome == Outcome::incomplete ? static_cast<std::size_t>(lines.end() - text.data()) : begin;
    if (const Problem problem = too_long(line, end); problem != Problem::none) return refused(problem);
    if (outcome == Outcome::incomplete) {
        line_ = static_cast<std::uint32_t>(begin);
        searched_ = static_cast<std::uint32_t>(end == begin ? begin : end - 1);  // a CR may be the last
        lines_ = line;
        seen_ = meaning.seen;
        return {};
    }
    if (const Problem problem = conclude(head, meaning); problem != Problem::none) return refused(problem);
    head.size_ = lines.fields();
    return {Parsed::State::complete, Problem::none, skipped + end};
}

Parsed HeadParser::request(Bytes input, RequestHead& head, const HeadLimits& limits) noexcept {
    return parse(input, head, limits);
}

Parsed HeadParser::response(Bytes input, ResponseHead& head, const HeadLimits& limits) noexcept {
    return parse(input, head, limits);
}

Parsed HeadParser::trailer(Bytes input, Trailer& trailer, const HeadLimits& limits) noexcept {
    return parse(input, trailer, limits);
}

}  // namespace reactor::http
