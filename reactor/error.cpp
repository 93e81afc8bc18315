#include <reactor/error.hpp>

#include <string>

namespace reactor {

const std::error_category& error_category() noexcept {
    struct Category final : std::error_category {
        const char* name() const noexcept override { return "reactor"; }
        std::string message(int value) const override {
            switch (static_cast<Error>(value)) {
                case Error::exception: return "the protocol threw an exception";
                case Error::input_limit: return "too much input was left unconsumed";
                case Error::output_limit: return "too much output was waiting to be sent";
                case Error::malformed: return "malformed message";
                case Error::message_too_long: return "message longer than allowed";
                case Error::ended_inside_message: return "the stream ended inside a message";
                case Error::idle_timeout: return "silent for too long";
                case Error::message_timeout: return "a message took too long to come";
                case Error::write_timeout: return "the peer read nothing for too long";
                case Error::close_timeout: return "the connection was not closed in time";
                case Error::descriptor_limit: return "too many descriptors came and were not taken";
                case Error::file_shortened: return "a file became shorter while it was being sent";
                case Error::successor_ended: return "the successor ended before it accepted";
                case Error::successor_timeout: return "the successor did not accept in time";
                case Error::end_of_stream: return "the peer has ended its stream";
                case Error::receive_timeout: return "the peer sent nothing for too long";
                case Error::handshake_timeout: return "the TLS handshake took too long";
                case Error::truncated: return "the stream ended without the peer's close_notify";
            }
            return "unknown error " + std::to_string(value);
        }
        std::error_condition default_error_condition(int value) const noexcept override {
            switch (static_cast<Error>(value)) {
                case Error::idle_timeout:
                case Error::message_timeout:
                case Error::write_timeout:
                case Error::close_timeout:
                case Error::receive_timeout:
                case Error::handshake_timeout:
                case Error::successor_timeout: return std::errc::timed_out;
                default: return {value, *this};
            }
        }
    };
    static const Category category;
    return category;
}

}  // namespace reactor
