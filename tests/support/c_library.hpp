// How the C library declares its calls, which a program that defines them itself has to repeat: glibc says that they do
// not throw, and takes their flags as an int. musl does neither.
#pragma once

#include <reactor/system_impl.hpp>

#include <type_traits>

constexpr bool in_glibc = REACTOR_HAS(GLIBC);
using MessageFlags = std::conditional_t<in_glibc, int, unsigned>;
