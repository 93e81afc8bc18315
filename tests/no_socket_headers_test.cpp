// Protocols and the kit that tests them never see a system call: this compiles only if no socket header comes along.
#include <protocols/any_framing.hpp>
#include <protocols/chargen.hpp>
#include <protocols/counted.hpp>
#include <protocols/daytime.hpp>
#include <protocols/delimited.hpp>
#include <protocols/discard.hpp>
#include <protocols/echo.hpp>
#include <protocols/fixed_length.hpp>
#include <protocols/forward.hpp>
#include <protocols/framed.hpp>
#include <protocols/framing.hpp>
#include <protocols/length_prefixed.hpp>
#include <protocols/publish_subscribe.hpp>
#include <protocols/time.hpp>
#include <protocols/until_close.hpp>
#include <reactor/testing/cuts.hpp>
#include <reactor/testing/memory_datagram_transport.hpp>
#include <reactor/testing/memory_transport.hpp>

// What <sys/socket.h>, <poll.h>, <sys/epoll.h> and <fcntl.h> define as macros, on Linux and elsewhere.
#if defined(AF_INET) || defined(SOL_SOCKET) || defined(POLLIN) || defined(EPOLLIN) || defined(O_NONBLOCK)
#error "a header of protocols/ includes a socket header"
#endif
