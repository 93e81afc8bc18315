// file_server: each client gets the file, and then the end of the stream.
#include <protocols/programs/program.hpp>
#include <protocols/programs/tls_options.hpp>
#include <protocols/send_file.hpp>
#include <reactor/reactor.hpp>
#include <reactor/stream/acceptor.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>

using namespace reactor;

namespace {

struct Settings {
    std::string file;
    std::string host = "localhost";
    std::uint16_t port = 10000;
    std::string backend = "auto";
    std::uint64_t rate = 0;
    double timeout = 60;
    double drain = 30;
    bool verbose = false;
    program::TlsSettings tls;
};

class ToldSendFile final : public SendFile {
public:
    using SendFile::SendFile;

private:
    void connected() override {
        peer_ = transport().peer().to_string();
        SendFile::connected();
    }
    void disconnected(std::error_code reason) override {
        program::say("{}: {}", peer_, reason ? reason.message() : "sent");
    }
    std::string peer_;
};

int serve(const Settings& settings) {
    program::raise_descriptor_limit();
    const FileDescriptor file(::open(settings.file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat state {};
    if (!file || ::fstat(file.get(), &state) != 0)
        throw std::system_error(errno, std::system_category(), settings.file);
    if (!S_ISREG(state.st_mode)) throw std::invalid_argument(settings.file + ": not a regular file");
    try {
        Transport::length_of(file);
    } catch (const std::invalid_argument&) {
        throw std::invalid_argument(settings.file + ": the file has content, and a size of 0");
    }
    AcceptorOptions options;
    options.connection.limits.close_timeout = program::seconds(settings.timeout);
    options.connection.rates.bytes_out.per_second = settings.rate;
    Reactor reactor(settings.backend);
    Acceptor acceptor(reactor, settings.host, settings.port,
                      program::dressed(program::tls_of_server(settings.tls),
                                       settings.verbose ? ProtocolFactory(factory<ToldSendFile>(settings.file))
                                                        : ProtocolFactory(factory<SendFile>(settings.file))),
                      options);
    return program::serve_until_signal(reactor, acceptor.addresses(), settings.drain, Draining::told);
}

}  // namespace

int main(int argc, char** argv) {
    Settings settings;
    CLI::App arguments("Sends a file to whoever connects, and closes.", "file_server");
    arguments.option_defaults()->always_capture_default();
    arguments.add_option("file", settings.file, "opened anew for each connection")->required();
    arguments.add_option("--host", settings.host, "address or name to listen at; empty: all; unix:/path, unix:@name");
    program::add_port(arguments, settings.port, "port to listen at; 0: a free one");
    program::add_backend(arguments, settings.backend);
    arguments.add_option("--rate", settings.rate, "bytes a second for each connection; 0: as fast as it goes")
        ->check(program::from_to(std::uint64_t(0), std::uint64_t(1) << 40));
    arguments
        .add_option("--timeout", settings.timeout, "seconds for which a peer may read nothing, or not close at the end")
        ->check(program::seconds_from(0.001));
    program::add_drain(arguments, settings.drain);
    arguments.add_flag("--verbose", settings.verbose, "tell how each transfer ended");
    program::add_tls_server(arguments, settings.tls);
    int status = 0;
    if (!program::parsed(arguments, argc, argv, status)) return status;
    return program::run("file_server", [&] { return serve(settings); });
}
