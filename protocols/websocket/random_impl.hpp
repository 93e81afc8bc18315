// Unpredictable random bytes, for masks and keys.
#pragma once

#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <type_traits>

namespace reactor::websocket {

/// Random bytes in the form of a T of at most 256 bytes. Throws std::system_error (getentropy(3), which Linux' C
/// libraries, macOS and the BSDs have).
template <class T>
T random_value() {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 256);
    T value;
    if (::getentropy(&value, sizeof value) != 0)
        throw std::system_error(errno, std::system_category(), "websocket: getentropy");
    return value;
}

}  // namespace reactor::websocket
