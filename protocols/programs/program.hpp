// The common part of the programs: their start, their arguments and their error messages. Not installed.
#pragma once

#include <protocols/framing/any_framing.hpp>
#include <reactor/bytes.hpp>
#include <reactor/clock.hpp>
#include <reactor/demultiplexer.hpp>
#include <reactor/net/address.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/run_until_signal.hpp>

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#ifndef REACTOR_VERSION
#define REACTOR_VERSION "unknown"  // the build says which
#endif

namespace program {

/// UDP has a longest datagram, Unix sockets have their buffers' size: net.core.wmem_default, unless the administrator
/// changed it.
constexpr std::size_t longest_unix_datagram = 256 * 1024;

/// A byte that cannot be printed, as \xHH.
inline std::string escaped(char character) {
    return fmt::format("\\x{:02x}", static_cast<unsigned char>(character));
}

/// Writes a line, with a control character as \xHH, so that it stays one line. If it cannot be written (a full disk, a
/// pipe without a reader, a closed descriptor) it is lost, and the program goes on. Not with stdio, which would keep
/// the failed line and write it later, behind newer ones.
inline void write_line(int descriptor, std::string_view text) {
    std::string line;
    for (const char character : text) {
        const auto code = static_cast<unsigned char>(character);
        code < 0x20 || code == 0x7f ? void(line += escaped(character)) : line.push_back(character);
    }
    line += '\n';
    std::string_view rest = line;
    while (!rest.empty()) {
        const ssize_t count = ::write(descriptor, rest.data(), rest.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return;
        rest.remove_prefix(std::size_t(count));
    }
}

/// Writes a line to standard output at once, also if that is a pipe.
template <class... Arguments>
void say(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    write_line(STDOUT_FILENO, fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// The same to standard error.
template <class... Arguments>
void warn(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    write_line(STDERR_FILENO, fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// Makes the program independent of how its parent left standard descriptors and signals. Exec keeps all three: closed
/// descriptors, blocked signals and ignored signals.
inline void begin() {
    // The next socket would get a free number below 3, and log lines would be sent over it.
    for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::fcntl(descriptor, F_GETFD) < 0) (void)!::open("/dev/null", O_RDWR);
    // A line for a pipe without a reader is lost, and does not end the program.
    std::signal(SIGPIPE, SIG_IGN);
    // A blocked SIGHUP stays for Signals to unblock: a predecessor blocks it in a successor that has no handler yet.
    sigset_t all_others;
    sigfillset(&all_others);
    sigdelset(&all_others, SIGHUP);
    ::sigprocmask(SIG_UNBLOCK, &all_others, nullptr);
}

/// Is the signal ignored since the start, as nohup(1) does with SIGHUP?
inline bool is_ignored(int signal) {
    struct sigaction action {};
    return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

/// Runs `body` and turns what it throws into one line on standard error. Returns the program's exit status.
template <class Body>
int run(std::string_view name, Body&& body) {
    try {
        begin();
        return body();
    } catch (const std::exception& error) {
        warn("{}: {}", name, error.what());
        return EXIT_FAILURE;
    }
}

/// The error of an option that was given too often or without its value, in our own words.
inline std::string wrong_count(const CLI::App& arguments, const CLI::ArgumentMismatch& error) {
    const std::string text = error.what(), name = text.substr(0, text.find(':'));
    const CLI::Option* option = arguments.get_option_no_throw(name);
    if (option == nullptr) return text;
    if (option->count() > 1) return name + " is given more than once";
    std::string kind = option->get_type_name();
    if (const std::size_t colon = kind.find(':'); colon != std::string::npos) kind.replace(colon, 1, " ");
    return name + " needs a value: " + kind;
}

/// Reads the arguments. False if there is nothing more to do, after --help, --version and a wrong argument, which
/// gets one line on standard error; `status` is then the program's exit status.
inline bool parsed(CLI::App& arguments, int argc, char** argv, int& status) {
    const auto wrong = [&](const std::string& what) {
        warn("{}: {}; --help lists what there is", arguments.get_name(), what);
        status = 2;
    };
    arguments.set_version_flag("--version", arguments.get_name() + " " REACTOR_VERSION, "say which version this is");
    try {
        arguments.parse(argc, argv);
        return true;
    } catch (const CLI::Success& asked) {
        status = arguments.exit(asked);
    } catch (const CLI::ArgumentMismatch& error) {
        wrong(wrong_count(arguments, error));
    } catch (const CLI::ParseError& error) {
        wrong(error.what());
    }
    return false;
}

/// A number from `least` to `most`, and nothing else: neither "nan" nor, where whole numbers are wanted, "1.5".
template <class Number>
CLI::Validator from_to(Number least, Number most) {
    const std::string_view kind = std::is_integral_v<Number> ? "a whole number" : "a number";
    const auto check = [=](std::string& text) {
        Number value{};
        if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return std::string();
        return fmt::format("{} is not {} from {} to {}", text, kind, least, most);
    };
    return CLI::Validator(check, fmt::format("{} to {}", least, most));
}

/// The value of an option in seconds, which seconds_from has checked.
inline reactor::Duration seconds(double value) {
    return std::chrono::duration_cast<reactor::Duration>(std::chrono::duration<double>(value));
}

/// The check of such an option. A duration holds what it lets through: neither 1e300 nor "nan".
inline CLI::Validator seconds_from(double least) {
    return from_to(least, 1e9);
}

/// The kernel's default of 1024 descriptors is a compromise for programs that use select's fd_set, which is not our
/// problem.
inline void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// An address as Acceptor and Connector take it.
struct Endpoint {
    std::string host;
    std::uint16_t port = 0;
};

/// "name:80", "[::1]:80", ":80", "unix:/path". Throws std::invalid_argument that quotes the text.
inline Endpoint parse_endpoint(const std::string& text) {
    if (text.starts_with("unix:")) return {text, 0};
    const std::size_t colon = text.rfind(':');
    Endpoint endpoint;
    const char* const end = text.data() + text.size();
    const char* const digits = colon == std::string::npos ? end : text.data() + colon + 1;
    const auto [last, error] = std::from_chars(digits, end, endpoint.port);
    if (digits == end || error != std::errc() || last != end)
        throw std::invalid_argument(fmt::format("\"{}\" is not HOST:PORT or unix:/path", text));
    endpoint.host = text.substr(0, colon);
    const bool bracketed = endpoint.host.starts_with('[') && endpoint.host.ends_with(']');
    if (bracketed) endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    if (!bracketed && endpoint.host.find(':') != std::string::npos)
        throw std::invalid_argument(fmt::format("\"{}\": an IPv6 address needs brackets, [::1]:80", text));
    return endpoint;
}

/// --backend, with the names that this build has.
inline void add_backend(CLI::App& arguments, std::string& backend) {
    std::string names = "auto";
    for (const std::string_view name : reactor::available_backends()) names.append(", ").append(name);
    arguments.add_option("--backend", backend, "what the loop waits with: " + names);
}

/// --framing and --max-message.
inline void add_framing(CLI::App& arguments, std::string& framing, std::size_t& max_message) {
    arguments.add_option("--framing", framing,
                         "how messages are told apart: " + std::string(reactor::framing_forms) +
                             "; \\n, \\r, \\0 and \\xHH are understood");
    arguments.add_option("--max-message", max_message, "bytes of the longest message")
        ->check(from_to(std::size_t(1), std::size_t(1) << 40));
}

/// The value of these two. Throws std::invalid_argument.
inline reactor::AnyFraming parse_framing(const std::string& framing, std::size_t max_message) {
    try {
        return reactor::parse_framing(framing, max_message);
    } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(std::string("--framing: ") + error.what());
    }
}

/// --port.
inline void add_port(CLI::App& arguments, std::uint16_t& port, const std::string& meaning) {
    arguments.add_option("--port", port, meaning)->check(from_to(std::uint16_t(0), std::uint16_t(65535)));
}

/// The bytes between quotes, with unprintable ones as \xHH: a line of the programs' output.
inline std::string quoted(reactor::Bytes bytes) {
    std::string result = "\"";
    for (const char character : reactor::text_of(bytes)) {
        const auto code = static_cast<unsigned char>(character);
        if (character == '"' || character == '\\') {
            result.append({'\\', character});
        } else if (code >= 0x20 && code < 0x7f) {
            result.push_back(character);
        } else {
            result += escaped(character);
        }
    }
    return result + '"';
}

inline void say_listening(const std::vector<reactor::Address>& addresses, const reactor::Reactor& reactor) {
    for (const reactor::Address& address : addresses)
        say("listening on {} ({})", address.to_string(), reactor.backend());
}

inline void say_cut(const reactor::Drained& all) {
    if (all.cut > 0) say("cut {} connection(s), with {} bytes unsent", all.cut, all.bytes_cut);
}

/// --drain, for serve_until_signal.
inline void add_drain(CLI::App& arguments, double& drain) {
    arguments.add_option("--drain", drain, "seconds that connections may take to end after SIGINT and SIGTERM")
        ->check(seconds_from(0));
}

/// Says where it listens, and goes on until SIGINT or SIGTERM. Then the connections have `drain` seconds to end, or
/// until a second signal. The exit status.
inline int serve_until_signal(reactor::Reactor& reactor, const std::vector<reactor::Address>& addresses, double drain,
                              reactor::Draining how) {
    reactor.post([&] { say_listening(addresses, reactor); });  // when a signal ends it in good order
    say_cut(run_until_signal(reactor, {SIGINT, SIGTERM}, seconds(drain), how).connections);
    return EXIT_SUCCESS;
}

}  // namespace program
