// The negotiation of permessage-deflate (RFC 7692, 7.1): extensions and their parameters, as RFC 6455, 9.1 spells them.
#include <protocols/websocket/deflate_impl.hpp>

#include <protocols/http/scan_impl.hpp>

#include <algorithm>
#include <utility>

namespace reactor::websocket::deflate {

namespace {

struct Parameter {
    std::string_view name;
    std::optional<std::string_view> value;
};

struct Extension {
    std::string_view name;
    std::vector<Parameter> parameters;
};

/// Reads extensions from the front of a field's value.
class Reader {
public:
    explicit Reader(std::string_view text) noexcept : rest_(text) {}

    /// False if the text is malformed.
    bool read(std::vector<Extension>& extensions) {
        for (;;) {
            Extension extension;
            if (!token(extension.name)) return false;
            while (take(';')) {
                Parameter parameter;
                if (!token(parameter.name) || (take('=') && !value(parameter))) return false;
                extension.parameters.push_back(parameter);
            }
            extensions.push_back(std::move(extension));
            if (rest_.empty()) return true;
            if (!take(',')) return false;
        }
    }

private:
    void skip_space() noexcept { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size())); }

    bool take(char character) noexcept {
        skip_space();
        if (!rest_.starts_with(character)) return false;
        rest_.remove_prefix(1);
        return true;
    }

    bool token(std::string_view& result) noexcept {
        skip_space();
        const char* const end = http::scan::past(rest_.data(), rest_.data() + rest_.size(), http::scan::token);
        result = rest_.substr(0, static_cast<std::size_t>(end - rest_.data()));
        rest_.remove_prefix(result.size());
        skip_space();
        return !result.empty();
    }

    /// A token, or one in quotes. Without escapes, which no parameter here needs.
    bool value(Parameter& parameter) noexcept {
        const bool quoted = take('"');
        std::string_view text;
        if (!token(text)) return false;
        parameter.value = text;
        return !quoted || take('"');
    }

    std::string_view rest_;
};

bool read_all(const http::Fields& fields, std::vector<Extension>& extensions) {
    for (const http::Field& field : fields) {
        if (!http::same_token(field.name, "Sec-WebSocket-Extensions")) continue;
        if (!Reader(field.value).read(extensions)) return false;
    }
    return true;
}

/// "8" to "15", without leading zeros; 0 otherwise.
int window_bits(const std::optional<std::string_view>& value) noexcept {
    static constexpr std::string_view numbers[] = {"8", "9", "10", "11", "12", "13", "14", "15"};
    const auto found = std::find(std::begin(numbers), std::end(numbers), value.value_or(""));
    return found == std::end(numbers) ? 0 : static_cast<int>(found - std::begin(numbers)) + 8;
}

/// The parameters of an offer or an answer. False if one is unknown, repeated, or has a value that it cannot have.
struct Parameters {
    bool read(const Extension& extension, bool is_offer) {
        for (const Parameter& each : extension.parameters) {
            const auto once = [](bool& seen) { return !std::exchange(seen, true); };
            if (each.name == "server_no_context_takeover") {
                if (!once(server_no_context) || each.value) return false;
            } else if (each.name == "client_no_context_takeover") {
                if (!once(client_no_context) || each.value) return false;
            } else if (each.name == "server_max_window_bits") {
                server_bits = window_bits(each.value);
                if (!once(has_server_bits) || server_bits == 0) return false;
            } else if (each.name == "client_max_window_bits") {
                const bool may_lack_value = is_offer && !each.value;
                if (!once(has_client_bits) || (!may_lack_value && window_bits(each.value) == 0)) return false;
            } else {
                return false;
            }
        }
        return true;
    }

    bool server_no_context = false, client_no_context = false, has_server_bits = false, has_client_bits = false;
    int server_bits = 15;
};

}  // namespace

Agreement agree(const http::Fields& fields) {
    std::vector<Extension> offers;
    if (!read_all(fields, offers)) return {.malformed = true};
    for (const Extension& each : offers) {
        Parameters parameters;
        // A smaller window than zlib's largest is declined: then the next offer counts.
        if (each.name != "permessage-deflate" || !parameters.read(each, true) || parameters.server_bits < 15) continue;
        std::string response(offer);
        if (parameters.has_server_bits) response += "; server_max_window_bits=15";
        return {.response = std::move(response)};
    }
    return {};
}

bool is_answer(const http::Fields& fields, bool& agreed) {
    std::vector<Extension> extensions;
    if (!read_all(fields, extensions)) return false;
    agreed = !extensions.empty();
    if (!agreed) return true;
    Parameters parameters;
    return extensions.size() == 1 && extensions[0].name == "permessage-deflate" &&
           parameters.read(extensions[0], false) && parameters.server_no_context && !parameters.has_client_bits;
}

}  // namespace reactor::websocket::deflate
