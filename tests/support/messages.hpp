// The tests' demand on the text of an error: it names the call and the argument.
#pragma once

#include <string>
#include <system_error>

template <class Call>
std::string message_of(Call call) {
    try {
        call();
    } catch (const std::system_error& error) {
        return error.what();
    }
    return {};
}

inline bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}
