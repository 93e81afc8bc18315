#include <protocols/http/body.hpp>

#include <protocols/http/scan_impl.hpp>

#include <algorithm>

namespace reactor::http {

BodyDecoder::BodyDecoder(const RequestHead& head) noexcept {
    if (head.chunked) {
        state_ = State::size;
    } else if (head.content_length.value_or(0) > 0) {
        state_ = State::length;
        left_ = *head.content_length;
    }
}

BodyDecoder::BodyDecoder(const ResponseHead& head, std::string_view request_method) noexcept {
    const bool successful = head.status >= 200 && head.status < 300;
    if (request_method == "HEAD" || head.status < 200 || head.status == 204 || head.status == 304 ||
        (request_method == "CONNECT" && successful)) {
        return;
    }
    if (head.chunked) {
        state_ = State::size;
    } else if (!head.content_length) {
        state_ = State::until_end;
    } else if (*head.content_length > 0) {
        state_ = State::length;
        left_ = *head.content_length;
    }
}

BodyDecoder::Part BodyDecoder::next(Bytes input, const BodyLimits& limits) noexcept {
    switch (state_) {
        case State::complete: return {{Parsed::State::complete, Problem::none, 0}, {}};
        case State::until_end:
            if (exceeds(input.size(), limits)) return refused(Problem::body_too_long);
            total_ += input.size();
            return {{Parsed::State::need_more, Problem::none, input.size()}, input};
        case State::length:
        case State::data: {
            if (exceeds(left_, limits)) return refused(Problem::body_too_long);
            const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(input.size(), left_));
            left_ -= taken;
            total_ += taken;
            if (left_ == 0) state_ = state_ == State::data ? State::data_return : State::complete;
            return {{complete() ? Parsed::State::complete : Parsed::State::need_more, Problem::none, taken},
                    input.first(taken)};
        }
        case State::trailer: {
            Trailer trailer;
            const Parsed parsed = trailer_.trailer(input, trailer, limits.trailer);
            if (parsed.state == Parsed::State::complete) state_ = State::complete;
            return {parsed, {}};
        }
        default: return chunk_lines(input, limits);
    }
}

/// Consumes the characters between the data of chunks, which never have to be seen twice.
BodyDecoder::Part BodyDecoder::chunk_lines(Bytes input, const BodyLimits& limits) noexcept {
    std::size_t consumed = 0;
    for (const char character : text_of(input)) {
        if (const Problem problem = step(character); problem != Problem::none) return refused(problem);
        ++consumed;
        if (++overhead_ > limits.overhead && overhead_ - limits.overhead > total_) {
            return refused(Problem::chunk_overhead_too_large);
        }
        if (state_ == State::data || state_ == State::trailer) break;
    }
    if (state_ == State::data && exceeds(left_, limits)) return refused(Problem::body_too_long);
    return {{Parsed::State::need_more, Problem::none, consumed}, {}};
}

/// One character of a chunk size, a chunk extension, or the line end behind a chunk (RFC 9112, 7.1).
Problem BodyDecoder::step(char character) noexcept {
    const bool is_space = character == ' ' || character == '\t';
    const auto to = [this](State state) noexcept {
        state_ = state;
        return Problem::none;
    };
    const auto bad = [this, character]() noexcept {
        if (character == '\n') return Problem::bare_line_feed;
        return extension_ ? Problem::bad_chunk_extension : Problem::bad_chunk_size;
    };
    switch (state_) {
        case State::size:
            left_ = 0;
            digits_ = 0;
            extension_ = false;
            if (!scan::is(character, scan::hexadecimal)) return bad();
            [[fallthrough]];
        case State::more_size:
            if (scan::is(character, scan::hexadecimal)) {
                if (++digits_ > 15) return Problem::bad_chunk_size;  // so that it always fits
                const int value = character <= '9' ? character - '0' : (character | 0x20) - 'a' + 10;
                left_ = left_ * 16 + static_cast<unsigned>(value);
                return to(State::more_size);
            }
            if (character == '\r') return to(State::size_end);
            if (is_space) return to(State::before_semicolon);
            if (character != ';') return bad();
            extension_ = true;
            return to(State::before_name);
        case State::before_semicolon:
            if (is_space) return Problem::none;
            if (character != ';') return bad();
            extension_ = true;
            return to(State::before_name);
        case State::before_name:
            if (is_space) return Problem::none;
            return scan::is(character, scan::token) ? to(State::name) : bad();
        case State::name:
            if (scan::is(character, scan::token)) return Problem::none;
            if (character == '\r') return to(State::size_end);
            [[fallthrough]];
        case State::after_name:
            if (is_space) return to(State::after_name);
            if (character == '=') return to(State::before_value);
            return character == ';' ? to(State::before_name) : bad();
        case State::before_value:
            if (is_space) return Problem::none;
            if (character == '"') return to(State::quoted);
            return scan::is(character, scan::token) ? to(State::value) : bad();
        case State::value:
            if (scan::is(character, scan::token)) return Problem::none;
            [[fallthrough]];
        case State::after_value:
            if (character == '\r') return to(State::size_end);
            if (is_space) return to(State::before_semicolon);
            return character == ';' ? to(State::before_name) : bad();
        case State::quoted:
            if (character == '"') return to(State::after_value);
            if (character == '\\') return to(State::quoted_pair);
            return scan::in_value(character) ? Problem::none : bad();
        case State::quoted_pair: return scan::in_value(character) ? to(State::quoted) : bad();
        case State::size_end:
            if (character != '\n') return Problem::bare_carriage_return;
            return to(left_ == 0 ? State::trailer : State::data);
        case State::data_return: return character == '\r' ? to(State::data_end) : Problem::bad_chunk_end;
        case State::data_end: return character == '\n' ? to(State::size) : Problem::bad_chunk_end;
        default: return Problem::none;
    }
}

Parsed BodyDecoder::end() const noexcept {
    if (state_ == State::complete || state_ == State::until_end) return {Parsed::State::complete, Problem::none, 0};
    return {Parsed::State::refused, Problem::ended_inside_message, 0};
}

}  // namespace reactor::http
