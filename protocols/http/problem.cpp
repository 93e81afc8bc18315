#include <protocols/http/problem.hpp>

#include <string>

namespace reactor::http {

std::string_view describe(Problem problem) noexcept {
    switch (problem) {
        case Problem::none: return "no problem";
        case Problem::bare_line_feed: return "a line ends in LF without CR";
        case Problem::bare_carriage_return: return "a CR has no LF behind it";
        case Problem::bad_start_line: return "the first line is malformed";
        case Problem::bad_method: return "the method is no token";
        case Problem::bad_target: return "the request target is malformed";
        case Problem::bad_version: return "the version is malformed";
        case Problem::unsupported_version: return "this version of HTTP is not supported";
        case Problem::bad_status: return "the status is malformed";
        case Problem::bad_field_name: return "a field name is no token";
        case Problem::space_before_colon: return "white space before the colon of a field";
        case Problem::folded_line: return "a field line begins with white space";
        case Problem::bad_field_value: return "a control character in a field value";
        case Problem::missing_host: return "the Host field is missing";
        case Problem::repeated_host: return "several Host fields";
        case Problem::bad_host: return "the Host field is malformed";
        case Problem::repeated_length: return "several values of Content-Length";
        case Problem::bad_length: return "Content-Length is malformed";
        case Problem::length_and_coding: return "both Content-Length and Transfer-Encoding";
        case Problem::bad_coding: return "Transfer-Encoding is malformed";
        case Problem::unknown_coding: return "this transfer coding is not supported";
        case Problem::coding_in_old_version: return "Transfer-Encoding in HTTP/1.0";
        case Problem::bad_expectation: return "this expectation is not supported";
        case Problem::bad_chunk_size: return "a chunk size is malformed";
        case Problem::bad_chunk_extension: return "a chunk extension is malformed";
        case Problem::bad_chunk_end: return "a chunk is not followed by CRLF";
        case Problem::bad_trailer: return "a trailer field is malformed or not allowed";
        case Problem::start_line_too_long: return "the first line is too long";
        case Problem::head_too_long: return "the header fields are too long";
        case Problem::too_many_fields: return "too many header fields";
        case Problem::body_too_long: return "the content is too long";
        case Problem::chunk_overhead_too_large: return "the chunks carry too little content";
        case Problem::ended_inside_message: return "the stream ended inside a message";
        case Problem::timed_out: return "the request did not arrive in time";
        case Problem::too_many_redirects: return "too many redirects";
        case Problem::bad_redirect: return "a redirect leads to no URL that may be followed";
        case Problem::refused_by_proxy: return "the proxy refused to connect";
    }
    return "an unknown problem";
}

int status_for(Problem problem) noexcept {
    switch (problem) {
        case Problem::unsupported_version: return 505;
        case Problem::unknown_coding: return 501;
        case Problem::bad_expectation: return 417;
        case Problem::start_line_too_long: return 414;
        case Problem::head_too_long:
        case Problem::too_many_fields: return 431;
        case Problem::body_too_long:
        case Problem::chunk_overhead_too_large: return 413;
        case Problem::timed_out: return 408;
        default: return 400;
    }
}

const std::error_category& problem_category() noexcept {
    static const struct Category final : std::error_category {
        const char* name() const noexcept override { return "http"; }
        std::string message(int code) const override { return std::string(describe(static_cast<Problem>(code))); }
    } category;
    return category;
}

}  // namespace reactor::http
