// <coroutine>, for every compiler of this library. clang 14 compiles the coroutines of C++20 and does not say so: it
// leaves out the macro without which the header of libstdc++ is an error (seen with clang 14.0.6 and libstdc++ 12.2).
#pragma once

#if defined(__clang__) && __clang_major__ < 15 && !defined(__cpp_impl_coroutine)
#define __cpp_impl_coroutine 201902L
#endif

#include <coroutine>
