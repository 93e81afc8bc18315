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
            }
            return "unknown error " + std::to_string(value);
        }
    };
    static const Category category;
    return category;
}

}  // namespace reactor
