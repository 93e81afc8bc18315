// BodyDecoder: where the content of a message of HTTP/1.1 ends, in each of the ways that RFC 9112, 6.3 knows. It does
// no I/O and copies nothing: content is given as views into the input, part by part.
#pragma once

#include <protocols/http/head.hpp>
#include <protocols/http/problem.hpp>
#include <reactor/bytes.hpp>
#include <reactor/export.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>

namespace reactor::http {

/// Bounds of the content of a message.
struct BodyLimits {
    std::uint64_t content = std::numeric_limits<std::uint64_t>::max();  ///< bytes, without what frames them
    /// Bytes of chunk sizes, extensions and line ends that may outweigh the content.
    std::uint32_t overhead = 64 * 1024;
    HeadLimits trailer = {};
};

/// Decodes the content of one message.
class REACTOR_EXPORT BodyDecoder {
public:
    /// No content: the message is complete with its head.
    BodyDecoder() noexcept = default;
    /// The content of a request (RFC 9112, 6.3): chunks, a length, or none.
    explicit BodyDecoder(const RequestHead& head) noexcept;
    /// The content of the response to a request of this method. It may end with the stream.
    BodyDecoder(const ResponseHead& head, std::string_view request_method) noexcept;

    /// One step. `content` is a view into the input, and may be empty.
    struct Part {
        Parsed parsed;  ///< need_more, complete behind the last part, or refused
        Bytes content;
    };
    /// Gives the next part. To be called again with the input that was not consumed, until it says need_more and
    /// consumed nothing. Errors: a refusal, after which the decoder is of no use.
    Part next(Bytes input, const BodyLimits& limits = {}) noexcept;

    /// The stream has ended: complete if that is how the content ends, otherwise Problem::ended_inside_message.
    Parsed end() const noexcept;

    bool complete() const noexcept { return state_ == State::complete; }
    /// The end of the stream ends the content, so the connection cannot be used again.
    bool until_end() const noexcept { return state_ == State::until_end; }
    /// Bytes of content that are still to come, if they were announced; 0 otherwise.
    std::uint64_t announced() const noexcept { return state_ == State::length ? left_ : 0; }

private:
    enum class State : std::uint8_t {
        complete,
        until_end,
        length,
        // From here on: chunks.
        size,              // the first digit
        more_size,         // a further digit, or what follows the size
        before_semicolon,  // white space behind a size or an extension, before ";"
        before_name,       // behind ";"
        name,
        after_name,    // white space behind the name
        before_value,  // behind "="
        value,
        quoted,
        quoted_pair,
        after_value,  // behind a quoted string
        size_end,     // LF of a chunk size
        data,
        data_return,  // CR behind data
        data_end,
        trailer,
    };

    Problem step(char character) noexcept;
    Part chunk_lines(Bytes input, const BodyLimits& limits) noexcept;
    bool exceeds(std::uint64_t more, const BodyLimits& limits) const noexcept {
        return more > limits.content || total_ > limits.content - more;
    }
    static Part refused(Problem problem) noexcept { return {{Parsed::State::refused, problem, 0}, {}}; }

    std::uint64_t left_ = 0;   // bytes of this chunk, or of the announced content
    std::uint64_t total_ = 0;  // bytes of content that came
    std::uint64_t overhead_ = 0;
    HeadParser trailer_;
    State state_ = State::complete;
    std::uint8_t digits_ = 0;
    bool extension_ = false;
};

}  // namespace reactor::http
