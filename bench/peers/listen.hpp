// The common part of the echo servers on other libraries, so that each is only its library's echo: the arguments, a
// listening socket, and the line that says where.
#pragma once

namespace bench {

/// Listens as `--host` and `--port` say (non-blocking), raises the limit on descriptors, has SIGTERM end the program,
/// and prints "listening on ADDRESS:PORT (NAME)". Ends the program if it cannot.
int listen_as_told(int count, char** arguments, const char* name);

/// The options that every server sets on accepted connections.
void no_delay(int descriptor);

}  // namespace bench
