// Protocols and the kit that tests them never see a system call: this compiles only if no socket header comes along.
#include <protocols/echo.hpp>
#include <protocols/examples/chargen.hpp>
#include <protocols/examples/daytime.hpp>
#include <protocols/examples/discard.hpp>
#include <protocols/examples/publish_subscribe.hpp>
#include <protocols/examples/time.hpp>
#include <protocols/forward.hpp>
#include <protocols/framing/any_framing.hpp>
#include <protocols/framing/counted.hpp>
#include <protocols/framing/delimited.hpp>
#include <protocols/framing/fixed_length.hpp>
#include <protocols/framing/framed.hpp>
#include <protocols/framing/framing.hpp>
#include <protocols/framing/length_prefixed.hpp>
#include <protocols/framing/until_close.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_datagram_transport.hpp>
#include <reactor/testing/memory_transport.hpp>

// What <sys/socket.h>, <poll.h>, <sys/epoll.h> and <fcntl.h> define as macros, on Linux and elsewhere.
#if defined(AF_INET) || defined(SOL_SOCKET) || defined(POLLIN) || defined(EPOLLIN) || defined(O_NONBLOCK)
#error "a header of protocols/ includes a socket header"
#endif
