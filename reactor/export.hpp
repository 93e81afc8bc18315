// REACTOR_EXPORT marks what the shared library shows of itself. Everything else stays inside it, where it can be
// called directly and changed freely.
#pragma once

#if defined(__GNUC__)
#define REACTOR_EXPORT [[gnu::visibility("default")]]
#else
#define REACTOR_EXPORT
#endif
