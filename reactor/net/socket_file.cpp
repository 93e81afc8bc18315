#include <reactor/net/socket_file.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace reactor {

namespace {

// Empty for what has no path.
std::string path_of(const Address& address) {
    if (address.family() != Address::Family::unix_domain) return {};
    const char* const path = reinterpret_cast<const char*>(address.data()) + offsetof(sockaddr_un, sun_path);
    return {path, ::strnlen(path, address.size() - offsetof(sockaddr_un, sun_path))};
}

// A socket of another kind is told that somebody is there by EPROTOTYPE, and to him nothing happens. Datagram sockets
// are of the same kind; to be connected to, those do not notice either.
bool nobody_there(const Address& address) {
    Socket asking = Socket::open(Address::Family::unix_domain, SocketKind::datagram);
    return asking.connect(address) == std::errc::connection_refused;
}

// Of those who replace files in this folder, one at a time. Where the folder may not be read it goes without.
FileDescriptor lock_folder_of(const std::string& path) noexcept {
    const std::size_t slash = path.rfind('/');
    const char* folder = ".";
    std::string name;
    if (slash == 0) folder = "/";
    if (slash != std::string::npos && slash > 0) {
        name = path.substr(0, slash);
        folder = name.c_str();
    }
    FileDescriptor descriptor(::open(folder, O_RDONLY | O_CLOEXEC));
    while (descriptor && ::flock(descriptor.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
    return descriptor;
}

}  // namespace

void bind_replacing(Socket& socket, const Address& address) {
    const std::string path = path_of(address);
    if (path.empty()) return socket.bind(address);
    try {
        return socket.bind(address);
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::address_in_use) throw;
    }
    const FileDescriptor lock = lock_folder_of(path);
    struct stat status {};
    const bool is_socket = ::lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
    if (is_socket && nobody_there(address)) ::unlink(path.c_str());
    socket.bind(address);
}

SocketFile::SocketFile(const Address& address) : path_(path_of(address)) {
    struct stat status {};
    if (path_.empty() || ::lstat(path_.c_str(), &status) != 0) {
        path_.clear();
        return;
    }
    device_ = std::uint64_t(status.st_dev);
    number_ = std::uint64_t(status.st_ino);
}

void SocketFile::remove() noexcept {
    const std::string path = std::exchange(path_, {});
    struct stat status {};
    if (path.empty() || ::lstat(path.c_str(), &status) != 0) return;
    if (std::uint64_t(status.st_dev) == device_ && std::uint64_t(status.st_ino) == number_) ::unlink(path.c_str());
}

}  // namespace reactor
