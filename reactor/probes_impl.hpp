// Static probes (USDT) for perf, bpftrace and SystemTap: places that such a tool can stop at, with their arguments.
// With -Dprobes=enabled each is one instruction that does nothing until a tool looks. Otherwise there are none,
// whatever the machine has that builds the library.
//
//     turn_begin(events)               the wait is over, so many descriptors are ready
//     event(descriptor, condition)     one of them, before its handler is called; poll(2)'s bits
//     timer(timer)                     a Timer calls back
//     connection_opened(descriptor)
//     connection_ended(descriptor, error)   the error's number, 0 for an orderly end
//     turn_end()
#pragma once

#ifdef REACTOR_PROBES
#define SDT_USE_VARIADIC  // the header demands it for STAP_PROBEV
#include <sys/sdt.h>
#define REACTOR_PROBE(...) STAP_PROBEV(reactor, __VA_ARGS__)
#else
#define REACTOR_PROBE(...) static_cast<void>(0)
#endif
