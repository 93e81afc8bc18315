#include <protocols/send_file.hpp>

#include <reactor/beyond_standard_impl.hpp>
#include <reactor/c_string_impl.hpp>
#include <reactor/file_descriptor.hpp>
#include <reactor/stream/transport.hpp>

#include <fcntl.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace reactor {

SendFile::SendFile(std::string path) : path_(std::move(path)) {
    refuse_nul(path_, std::string("SendFile: ") + path_.c_str());
}

void SendFile::connected() {
    // Opening a named pipe would wait for its writer.
    FileDescriptor file = beyond_standard(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file) return transport().abort({errno, std::system_category()});
    try {
        transport().write_file(std::move(file));
    } catch (const std::invalid_argument&) {
        return transport().abort(std::make_error_code(std::errc::not_supported));
    } catch (const std::system_error& error) {
        return transport().abort(error.code());
    }
    transport().close();
}

}  // namespace reactor
