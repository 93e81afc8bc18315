// If the input ends inside a line, the parser remembers where the line begins. It then looks for the line's end alone
// in further input, and parses the line when that is there. The whole head is parsed again, once, when it is complete,
// because the views into earlier inputs are no longer valid.
#include <protocols/http/head.hpp>

#include <protocols/http/lines_impl.hpp>

#include <algorithm>
#include <type_traits>

namespace reactor::http {

namespace {

using namespace head_detail;

template <class AnyHead>
constexpr bool has_start_line = !std::is_same_v<AnyHead, Trailer>;

Parsed refused(Problem problem) noexcept {
    return {Parsed::State::refused, problem, 0};
}

/// `end`: where the line that was just looked at ends, or the input.
Problem too_long(bool start_line, std::size_t end, const HeadLimits& limits) noexcept {
    if (start_line && end > limits.start_line) return Problem::start_line_too_long;
    return end > limits.head ? Problem::head_too_long : Problem::none;
}

/// One byte more than is allowed is looked at, to know that there is one.
std::string_view with_one_more(std::string_view text, std::uint32_t limit) noexcept {
    return text.substr(0, std::size_t(limit) + 1);
}

}  // namespace

template <class AnyHead>
Parsed HeadParser::parse(Bytes input, AnyHead& head, const HeadLimits& limits) noexcept {
    std::string_view text = text_of(input);
    std::size_t skipped = 0;
    if (std::is_same_v<AnyHead, RequestHead> && text.starts_with('\r')) {
        if (text.size() == 1) return {};
        if (text[1] != '\n') return refused(Problem::bare_carriage_return);
        skipped = 2;
        text.remove_prefix(2);
    }
    text = with_one_more(text, limits.head);
    if (searched_ == 0 && text.size() <= limits.start_line && text.ends_with('\n')) [[likely]]
        return parse_lines<true>(text, skipped, head, limits);
    return parse_otherwise(text, skipped, head, limits);
}

/// With more of a head that was incomplete, or with text that does not end with a line. A function of its own, so that
/// the usual one has no call.
template <class AnyHead>
[[gnu::noinline]] Parsed HeadParser::parse_otherwise(std::string_view text, std::size_t skipped, AnyHead& head,
                                                     const HeadLimits& limits) noexcept {
    if (searched_ != 0) {
        if (const Problem problem = go_on(text, head, limits); problem != Problem::none) return refused(problem);
        if (searched_ != 0) return {};
    }
    return parse_lines<false>(text, skipped, head, limits);
}

/// All of the head, from its first line on. `skipped`: bytes before `text`. `whole_lines`: `text` ends with a line, and
/// the start line cannot be too long.
template <bool whole_lines, class AnyHead>
[[gnu::always_inline]] inline Parsed HeadParser::parse_lines(std::string_view text, std::size_t skipped, AnyHead& head,
                                                             const HeadLimits& limits) noexcept {
    const auto start_text = [&] { return whole_lines ? text : with_one_more(text, limits.start_line); };
    head.reset();
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    const char* at = begin;  // of the line that is incomplete
    Meaning meaning;
    std::size_t fields = 0, lines = 0;
    Outcome outcome;
    if (has_start_line<AnyHead>) outcome = start_line<whole_lines>(start_text(), at, head);
    if (outcome.is_line()) {
        if (has_start_line<AnyHead> && !whole_lines && std::size_t(at - begin) > limits.start_line)
            return refused(Problem::start_line_too_long);
        const std::span<Field> room = room_of(head, limits);
        FieldLines<AnyHead, whole_lines> field_lines({at, std::size_t(end - at)}, head, room, 0, meaning);
        outcome = field_lines.all();
        at = field_lines.at();
        fields = std::size_t(field_lines.next() - room.data());
        lines = fields + has_start_line<AnyHead>;
    }
    if (outcome.kind == Outcome::Kind::refused) return refused(outcome.problem);
    const bool incomplete = outcome.kind == Outcome::Kind::incomplete;
    const bool in_start_line = has_start_line<AnyHead> && lines == 0;
    const std::size_t size = incomplete ? (in_start_line ? start_text() : text).size() : std::size_t(at - begin);
    if (const Problem problem = too_long(in_start_line, size, limits); problem != Problem::none) {
        return refused(problem);
    }
    if (incomplete) {
        line_ = static_cast<std::uint32_t>(at - begin);
        searched_ = size == line_ ? line_ : static_cast<std::uint32_t>(size - 1);  // a CR may be the last
        lines_ = static_cast<std::uint16_t>(lines);
        seen_ = meaning.seen;
        return {};
    }
    if (const Problem problem = conclude(head, meaning); problem != Problem::none) return refused(problem);
    head.size_ = fields;
    return {Parsed::State::complete, Problem::none, skipped + size};
}

/// The line that was not complete: is it now? It ends with a control character, or is refused for it. Lines are looked
/// at until one is still not complete, or the head is: then `searched_` is 0, and all of it is parsed, once.
template <class AnyHead>
Problem HeadParser::go_on(std::string_view text, AnyHead& head, const HeadLimits& limits) noexcept {
    const scan::End bounds(text.data(), text.data() + text.size());
    while (searched_ != 0) {
        const char* const stop = scan::past_value(text.data() + searched_, bounds);
        const auto found = static_cast<std::size_t>(stop - text.data());
        const bool to_come = found == text.size() || (*stop == '\r' && found + 1 == text.size());
        const std::size_t end = to_come ? text.size() : found + (*stop == '\r' ? 2 : 1);
        const bool first = has_start_line<AnyHead> && lines_ == 0;
        const Problem problem = too_long(first, end, limits);
        if (to_come && problem == Problem::none) {
            searched_ = static_cast<std::uint32_t>(found);
            return Problem::none;
        }
        Meaning meaning;
        meaning.seen = seen_;
        Outcome outcome;
        if (first) {
            const char* at = nullptr;
            outcome = start_line<false>(with_one_more(text.substr(0, end), limits.start_line), at, head);
        } else {
            const std::size_t known = lines_ - std::size_t(has_start_line<AnyHead>);
            FieldLines<AnyHead, false> line(text.substr(line_, end - line_), head, room_of(head, limits), known,
                                            meaning);
            outcome = line.all();
        }
        if (outcome.kind == Outcome::Kind::refused) return outcome.problem;
        if (problem != Problem::none) return problem;
        if (outcome.kind == Outcome::Kind::empty_line) {
            searched_ = 0;
            break;
        }
        ++lines_;
        seen_ = meaning.seen;
        line_ = searched_ = static_cast<std::uint32_t>(end);
    }
    return Problem::none;
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
