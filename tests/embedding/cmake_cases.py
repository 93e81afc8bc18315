"""The CMake build beside the Meson build: the same sources, headers, options, symbols and installed files; and each way
in which a CMake project takes the library in, with no network."""

import json
import os
import re
import shutil
import unittest

from building import JOBS, fails, files_under, run, write

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
SCRATCH = os.environ["EMBEDDING_SCRATCH"]
# Each library is compiled as one unit, in a sixth of the time: that each file compiles alone, Meson's build shows.
PLAIN = ("-DCMAKE_BUILD_TYPE=", "-DCMAKE_CXX_FLAGS=-O0 -Werror", "-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0")
# Each of these compiles the whole library once more, which is more than a run of all tests has time for.
whole_builds = unittest.skipUnless(os.environ.get("CMAKE_CASES"), "CMAKE_CASES=1 compiles the library by CMake, too")
BUILD_ONLY = {"programs", "tests", "benchmarks", "fuzzers"}  # options of what CMake does not build

# The parent has folders of its own with the names of ours.
PARENT = """
cmake_minimum_required(VERSION 3.21)
project(application CXX)
{reactor}
add_executable(application {here}/application.cpp visible.cpp)
target_link_libraries(application PRIVATE reactor::reactor)
enable_testing()
"""
VISIBLE = """
#include <reactor/reactor.hpp>
#include <protocols/echo.hpp>
#if __has_include(<reactor/system_impl.hpp>) || __has_include(<tests/support/loop.hpp>) || \\
    __has_include(<bench/dispatch.cpp>) || __has_include(<protocols/programs/program.hpp>) || __has_include(<CMakeLists.txt>)
#error "the include path shows more than public headers"
#endif
"""
FETCHED = """
include(FetchContent)
FetchContent_Declare(reactor GIT_REPOSITORY https://reactor.invalid/reactor.git GIT_TAG v0)
FetchContent_MakeAvailable(reactor)
"""


def sources_in(source):
    """All that the library should be compiled from."""
    return {os.path.join(folder, name) for folder in ("reactor", "protocols")
            for name in files_under(os.path.join(source, folder))
            if name.endswith(".cpp") and not (folder == "protocols" and name.startswith(("programs/", "examples/chat/")))}


def sources_of_cmake(source, build):
    run("cmake", "-S", source, "-B", build, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_UNITY_BUILD=OFF")
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        return {os.path.relpath(entry["file"], os.path.realpath(source)) for entry in json.load(file)}


def sources_of_meson(build):
    targets = json.loads(run("meson", "introspect", "--targets", build))
    return {os.path.relpath(name, SOURCE) for target in targets if target["name"].startswith("reactor")
            for part in target["target_sources"] for name in part["sources"] if not name.startswith(build)}


class CMakeCases:
    """Mixed into the test of packaging, which has installed the library by Meson (`prefixes`)."""

    made = {}  # by kind: the prefix that CMake has installed to

    def installed_by_cmake(self, kind):
        if not shutil.which("cmake"):
            self.skipTest("there is no cmake")
        if kind not in self.made:
            build, prefix = (os.path.join(SCRATCH, "cmake-" + word + kind) for word in ("build-", "prefix-"))
            generator = "Ninja" if kind == "static" else "Unix Makefiles"
            run("cmake", "-S", SOURCE, "-B", build, "-G", generator, "-DCMAKE_INSTALL_PREFIX=" + prefix,
                "-DCMAKE_INSTALL_LIBDIR=lib", f"-DBUILD_SHARED_LIBS={'ON' if kind == 'shared' else 'OFF'}", *PLAIN)
            run("cmake", "--build", build, JOBS)
            run("cmake", "--install", build)
            self.made[kind] = prefix
        return self.made[kind]

    # ── the two builds are one ──

    def check_same(self, **named):
        """Two sets, each by the name of its origin."""
        (one, ours), (other, theirs) = named.items()
        if ours != theirs:
            self.fail(f"{one} alone has {sorted(ours - theirs)}, {other} alone has {sorted(theirs - ours)}")

    def test_meson_and_cmake_compile_every_source_of_the_library(self):
        wanted = sources_in(SOURCE)
        self.assertGreater(len(wanted), 50)
        self.check_same(meson=sources_of_meson(os.environ["BUILD"]), tree=wanted)
        self.check_same(cmake=sources_of_cmake(SOURCE, os.path.join(SCRATCH, "cmake-sources")), tree=wanted)

    def test_cmake_shows_the_headers_that_meson_installs(self):
        if not shutil.which("cmake"):
            self.skipTest("there is no cmake")
        build = os.path.join(SCRATCH, "cmake-headers")
        run("cmake", "-S", SOURCE, "-B", build)
        self.check_same(cmake=files_under(os.path.join(build, "include")),
                        meson=files_under(os.path.join(self.prefixes["static"], "include", "reactor")))

    def test_one_file_more_is_a_difference_until_meson_lists_it_and_then_cmake_builds_it(self):
        if not shutil.which("cmake"):
            self.skipTest("there is no cmake")
        copy = os.path.join(SCRATCH, "copy")
        shutil.rmtree(copy, ignore_errors=True)
        for folder in ("reactor", "protocols"):
            shutil.copytree(os.path.join(SOURCE, folder), os.path.join(copy, folder))
        for name in ("CMakeLists.txt", "meson.build", "meson_options.txt"):
            shutil.copy(os.path.join(SOURCE, name), copy)
        write(os.path.join(copy, "reactor", "added.cpp"), "")
        build = os.path.join(SCRATCH, "copy-build")
        self.assertEqual(sources_in(copy) - sources_of_cmake(copy, build), {"reactor/added.cpp"})
        listing = os.path.join(copy, "reactor", "meson.build")
        with open(listing, encoding="utf-8") as file:
            text = file.read()
        write(listing, text.replace("reactor_sources = files(\n", "reactor_sources = files(\n  'added.cpp',\n"))
        self.assertEqual(sources_in(copy) - sources_of_cmake(copy, build), set())

    def test_meson_and_cmake_have_the_same_options_for_the_library(self):
        with open(os.path.join(SOURCE, "meson_options.txt"), encoding="utf-8") as file:
            of_meson = set(re.findall(r"option\('(\w+)'", file.read())) - BUILD_ONLY
        with open(os.path.join(SOURCE, "CMakeLists.txt"), encoding="utf-8") as file:
            of_cmake = {name.lower() for name in re.findall(r"option\(REACTOR_(\w+)", file.read())} - {"install"}
        self.check_same(cmake=of_cmake, meson=of_meson)

    @whole_builds
    def test_meson_and_cmake_install_the_same_files_with_the_same_content(self):
        for kind in ("static", "shared"):
            prefix, other = self.installed_by_cmake(kind), self.prefixes[kind]
            of_meson = {name for name in files_under(other) if not name.startswith(("bin/", "share/man/"))}
            self.check_same(cmake=files_under(prefix), meson=of_meson)
            for name in of_meson - {name for name in of_meson if name.startswith("lib/libreactor")}:
                with open(os.path.join(prefix, name), encoding="utf-8") as file:
                    by_cmake = file.read()
                with open(os.path.join(other, name), encoding="utf-8") as file:
                    by_meson = file.read()
                self.assertEqual(by_cmake.replace(prefix, other), by_meson, name)

    @whole_builds
    def test_meson_and_cmake_show_the_same_symbols_under_the_same_soname(self):
        libraries = [os.path.join(prefix, "lib", "libreactor.so")
                     for prefix in (self.installed_by_cmake("shared"), self.prefixes["shared"])]
        if not shutil.which("nm") or not shutil.which("readelf"):
            self.skipTest("there is no nm or no readelf")
        # The weak ones are copies of inline functions, which depend on how many files are compiled together.
        shown = [set(re.findall(r" [TDBR] (\S+)", run("nm", "-D", "--defined-only", library))) for library in libraries]
        self.assertGreater(len(shown[0]), 300)
        self.check_same(cmake=shown[0], meson=shown[1])
        names = [re.findall(r"soname: \[(.*)\]", run("readelf", "-d", library)) for library in libraries]
        self.assertEqual(names[0], names[1])

    # ── a project of CMake's takes it in ──

    def build_parent(self, name, reactor, *options, generator="Ninja"):
        if not shutil.which("cmake"):
            self.skipTest("there is no cmake")
        source, build = os.path.join(SCRATCH, name), os.path.join(SCRATCH, name + "-build")
        write(os.path.join(source, "CMakeLists.txt"), PARENT.format(reactor=reactor, here=HERE))
        write(os.path.join(source, "visible.cpp"), VISIBLE)
        run("cmake", "-S", source, "-B", build, "-G", generator, *PLAIN, *options)
        run("cmake", "--build", build, "--target", "application", JOBS)
        return build

    def test_by_cmake_as_a_subdirectory_with_nothing_installed_and_nothing_tested(self):
        build = self.build_parent("cmake-subdirectory", f"add_subdirectory({SOURCE} reactor)")
        self.runs(os.path.join(build, "application"))
        prefix = os.path.join(SCRATCH, "cmake-subdirectory-prefix")
        run("cmake", "--install", build, "--prefix", prefix)
        self.assertEqual(files_under(prefix), set())
        self.assertIn("No tests were found", run("ctest", folder=build))

    @whole_builds
    def test_by_fetch_content_disconnected_with_a_source_of_its_own_and_as_a_shared_library(self):
        build = self.build_parent("cmake-fetched", FETCHED, "-DFETCHCONTENT_FULLY_DISCONNECTED=ON",
                                  "-DFETCHCONTENT_SOURCE_DIR_REACTOR=" + SOURCE, "-DBUILD_SHARED_LIBS=ON",
                                  generator="Unix Makefiles")
        self.runs(os.path.join(build, "application"))

    @whole_builds
    def test_by_find_package_where_cmake_installed_it(self):
        prefix = self.installed_by_cmake("static")
        moved = os.path.join(SCRATCH, "cmake-moved")
        shutil.rmtree(moved, ignore_errors=True)
        shutil.copytree(prefix, moved)
        build = self.build_parent("cmake-installed", "find_package(reactor 0.1 CONFIG REQUIRED COMPONENTS static)",
                                  "-DCMAKE_PREFIX_PATH=" + moved)
        self.runs(os.path.join(build, "application"))
        _, configure = self.cmake("0.2 CONFIG REQUIRED", "static")
        self.assertRegex(fails(*configure[:-1], "-DCMAKE_PREFIX_PATH=" + moved), r"(?s)compatible\s+with\s+requested")
