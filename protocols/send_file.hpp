// SendFile: whoever connects gets a file, and then the end of the stream. What ends the message is the closing, so a peer
// that wants to know whether it has all of it must look at how the connection ended: a cut one ends with a reset.
#pragma once

#include <reactor/export.hpp>
#include <reactor/stream/protocol.hpp>

#include <cstddef>
#include <string>

namespace reactor {

/// Sends the file at `path` as it is when the peer connects; what the peer says is thrown away. A file that cannot be
/// opened resets the connection and comes to `disconnected` as its reason, as does what is no regular file
/// (not_supported). Who reads nothing, or does not close when all has come, is ended by Limits::close_timeout.
class REACTOR_EXPORT SendFile : public Protocol {
public:
    explicit SendFile(std::string path);

protected:
    void connected() override;
    std::size_t received(Bytes input) override { return input.size(); }

private:
    std::string path_;
};

}  // namespace reactor
