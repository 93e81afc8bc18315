// parse_framing: any text gives a framing or an error that quotes it, and the framing works.
#include "fuzz.hpp"

#include <protocols/framing/any_framing.hpp>

#include <stdexcept>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::size_t maximum = input.byte();
    const std::string text(input.rest());
    try {
        reactor::AnyFraming framing = reactor::parse_framing(text, maximum);
        fuzz::require(!framing.name().empty(), "a framing has a name");
        (void)framing.next(reactor::bytes_of(text));
        (void)framing.envelope(reactor::bytes_of(text));
    } catch (const std::invalid_argument& error) {
        // As far as what() shows it: not past a NUL.
        const std::string quoted = "'" + text + "'";
        fuzz::require(
            quoted.c_str() == std::string(error.what()).substr(0, std::char_traits<char>::length(quoted.c_str())),
            "an error quotes the text");
    }
    return 0;
}
