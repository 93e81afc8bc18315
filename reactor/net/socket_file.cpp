#include <reactor/net/socket_file.hpp>

#include <reactor/beyond_standard_impl.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>

namespace reactor {

namespace {

// Null for an address without a file. An Address has room for the terminator.
const char* path_of(const Address& address) noexcept {
    if (address.family() != Address::Family::unix_domain) return nullptr;
    const char* const path = reinterpret_cast<const sockaddr_un*>(address.data())->sun_path;
    return *path == '\0' ? nullptr : path;
}

// For a live socket of another kind connect(2) says EPROTOTYPE, and that socket notices nothing. A datagram socket is
// of the same kind; it does not notice a connect either.
bool nobody_there(const Address& address) {
    Socket asking = Socket::open(Address::Family::unix_domain, SocketKind::datagram);
    return asking.connect(address) == std::errc::connection_refused;
}

// One process at a time replaces files in a folder. Without permission to read the folder there is no lock. It is also
// given up if it does not come free: it is held for a few system calls, but any process that may read the folder can
// hold it for ever.
FileDescriptor lock_folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const char* folder = ".";
    std::string name;
    if (slash == 0) folder = "/";
    if (slash != std::string::npos && slash > 0) {
        name = path.substr(0, slash);
        folder = name.c_str();
    }
    FileDescriptor descriptor = beyond_standard(::open(folder, O_RDONLY | O_CLOEXEC));
    for (int tries = 50; descriptor && tries > 0 && ::flock(descriptor.get(), LOCK_EX | LOCK_NB) != 0; --tries) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return descriptor;
}

}  // namespace

void bind_replacing(Socket& socket, const Address& address) {
    const char* const path = path_of(address);
    if (path == nullptr) return socket.bind(address);
    try {
        return socket.bind(address);
    } catch (const std::system_error& error) {
        if (error.code() != std::errc::address_in_use) throw;
    }
    const FileDescriptor lock = lock_folder_of(path);
    struct stat status {};
    const bool is_socket = ::lstat(path, &status) == 0 && S_ISSOCK(status.st_mode);
    if (is_socket && nobody_there(address)) ::unlink(path);
    socket.bind(address);
}

SocketFile::SocketFile(const Address& address) noexcept {
    const char* const path = path_of(address);
    struct stat status {};
    if (path == nullptr || ::lstat(path, &status) != 0) return;
    address_ = address;
    device_ = std::uint64_t(status.st_dev);
    number_ = std::uint64_t(status.st_ino);
}

void SocketFile::remove() noexcept {
    const Address address = std::exchange(address_, {});
    const char* const path = path_of(address);
    struct stat status {};
    if (path == nullptr || ::lstat(path, &status) != 0) return;
    if (std::uint64_t(status.st_dev) == device_ && std::uint64_t(status.st_ino) == number_) ::unlink(path);
}

}  // namespace reactor
