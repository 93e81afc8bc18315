// REACTOR_EXPORT marks what the shared library shows of itself. Everything else stays inside it, where it can be
// called directly and changed freely; REACTOR_INTERNAL marks what does so inside a class that is shown.
#pragma once

// Here, as every header includes this one: otherwise the compiler complains of everything but this.
#if __cplusplus < 202002L
#error "reactor needs C++20: -std=c++20, in Meson cpp_std=c++20"
#endif

#if defined(__GNUC__)
#define REACTOR_EXPORT [[gnu::visibility("default")]]
#define REACTOR_INTERNAL [[gnu::visibility("hidden")]]
#else
#define REACTOR_EXPORT
#define REACTOR_INTERNAL
#endif
