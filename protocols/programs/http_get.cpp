// http_get: asks a web server for one page, and writes its content.
#include <protocols/http/client.hpp>
#include <protocols/programs/program.hpp>
#include <protocols/programs/tls_options.hpp>
#ifdef REACTOR_TLS
#include <protocols/http/over_tls.hpp>
#endif
#include <reactor/file_descriptor.hpp>
#include <reactor/reactor.hpp>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

struct Settings {
    std::string url;
    std::string method;
    std::vector<std::string> fields;
    std::string data;
    std::string type = "application/octet-stream";
    std::string output;
    std::string proxy;
    std::string address;
    std::string backend = "auto";
    double timeout = 30;
    std::size_t redirects = 10;
    bool head = false;
    program::TlsSettings tls;
};

/// Writes all of it. The loop has nothing else to do meanwhile.
void write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(descriptor, text.data(), text.size());
        if (count >= 0) {
            text.remove_prefix(std::size_t(count));
        } else if (errno == EAGAIN) {
            pollfd writable{descriptor, POLLOUT, 0};
            ::poll(&writable, 1, -1);
        } else if (errno != EINTR) {
            throw std::system_error(errno, std::system_category(), "write");
        }
    }
}

/// Status line and fields as they would be without a line break in any value.
std::string head_of(const http::Response& response) {
    std::string text = fmt::format("{} {}\n", response.status(), response.reason());
    for (const auto& [name, value] : response.fields()) text += fmt::format("{}: {}\n", name, value);
    return text + "\n";
}

http::ClientRequest request_of(const Settings& settings) {
    http::ClientRequest request;
    request.url = settings.url;
    request.method = !settings.method.empty() ? settings.method : settings.data.empty() ? "GET" : "POST";
    request.content = settings.data;
    if (!settings.data.empty()) request.type = settings.type;
    for (const std::string& field : settings.fields) {
        const std::size_t colon = field.find(':');
        if (colon == std::string::npos) throw std::invalid_argument("--header: no colon in " + field);
        const std::size_t value = std::min(field.find_first_not_of(' ', colon + 1), field.size());
        request.fields.emplace_back(field.substr(0, colon), field.substr(value));
    }
    return request;
}

http::ClientOptions options_of(const Settings& settings) {
    http::ClientOptions options;
    options.idle = 0;
    options.timeout = options.idle_timeout = options.connector.timeout = program::seconds(settings.timeout);
    options.redirects = settings.redirects;
    options.proxy = settings.proxy;
    options.address = settings.address;
#ifdef REACTOR_TLS
    options.secure = http::over_tls(TlsContext(program::tls_client_options(settings.tls)));
#endif
    return options;
}

int get(const Settings& settings) {
    FileDescriptor file;
    if (!settings.output.empty()) {
        file = FileDescriptor(::open(settings.output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
        if (!file) throw std::system_error(errno, std::system_category(), settings.output);
    }
    const int output = file ? file.get() : STDOUT_FILENO;
    Reactor reactor(settings.backend);
    http::Client client(reactor, options_of(settings));
    std::error_code failure;
    std::string refused;
    http::Client::Parts parts;
    parts.head = [&](const http::Response& response) {
        if (settings.head) write_all(output, head_of(response));
        if (response.status() >= 400)
            refused = fmt::format("{} {}: {}", response.status(), response.reason(), response.url());
    };
    parts.part = [&](std::error_code error, Bytes part, bool) {
        failure = error;
        write_all(output, text_of(part));
    };
    const http::Call call = client.send(request_of(settings), std::move(parts));
    while (call.open()) reactor.run_once();
    if (failure) throw std::runtime_error(fmt::format("{}: {}", settings.url, failure.message()));
    if (!refused.empty()) throw std::runtime_error(refused);
    return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    CLI::App arguments("Asks a web server for one page by HTTP/1.1, and writes what it sends.", "http_get");
    arguments.option_defaults()->always_capture_default();
    arguments.add_option("url", settings.url, "http or https")->required();
    arguments.add_option("--method", settings.method, "empty: GET, or POST with --data");
    arguments.add_option("--header", settings.fields, "a field to send, \"Name: value\"; may be given several times")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1);
    arguments.add_option("--data", settings.data, "content to send");
    arguments.add_option("--type", settings.type, "the type of that content");
    arguments.add_option("--output", settings.output, "file to write to; empty: standard output");
    arguments.add_flag("--head", settings.head, "write the status and the fields before the content");
    arguments.add_option("--redirects", settings.redirects, "how many are followed")
        ->check(program::from_to(std::size_t(0), std::size_t(1000)));
    arguments.add_option("--proxy", settings.proxy, "http URL of a proxy");
    arguments.add_option("--address", settings.address, "connect to this host, whatever the URL says; unix:/path");
    arguments.add_option("--timeout", settings.timeout, "seconds until the answer begins, and for each silence in it")
        ->check(program::seconds_from(0.001));
    program::add_backend(arguments, settings.backend);
    program::add_tls_of_urls(arguments, settings.tls);
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("http_get", [&] { return get(settings); });
}
