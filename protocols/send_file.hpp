// SendFile: each client gets a file, and then the end of the stream. The closing ends the message: a client that wants
// to know whether it has all of the file looks at how the connection ended. A cut one ends with a reset.
#pragma once

#include <reactor/export.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <string>

namespace reactor {

/// Sends the file at `path` as it is when the peer connects; its input is thrown away. A file that cannot be
/// opened resets the connection and comes to `disconnected` as its reason, as does what Transport::write_file refuses
/// (not_supported): no regular file, or one in /proc, which says that it is empty and is not.
/// Limits::close_timeout ends a connection whose peer reads nothing, or does not close after the file.
class REACTOR_EXPORT SendFile : public Protocol {
public:
    /// Throws std::system_error (invalid_argument) if there is a NUL in the path.
    explicit SendFile(std::string path);

protected:
    void connected() override;
    std::size_t received(Bytes input) override { return input.size(); }

private:
    std::string path_;
};

}  // namespace reactor
