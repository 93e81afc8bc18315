"""Installs the library as a user would and embeds it in an application, by each of the ways the README names. Needs
MESON, NINJA and a scratch folder (EMBEDDING_SCRATCH); builds with g++ and clang++, whichever are there. Each library is
compiled as one unit: that each file compiles alone, the build shows that this test belongs to."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time
import unittest

from building import JOBS, LIMIT, fails, files_under, run, write
from cmake_cases import VISIBLE, CMakeCases, sources_in, whole_builds

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
SCRATCH = os.environ["EMBEDDING_SCRATCH"]
STRICT = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
COMPILERS = [compiler for compiler in ("g++", "clang++") if shutil.which(compiler)]
# As applications may build all that is theirs; and it is compiled in a sixth of the time.
IN_ONE_UNIT = ("-Dunity=on", "-Dunity_size=1000")


def install(kind):
    """A prefix with the library installed as `kind`: static or shared."""
    prefix = os.path.join(SCRATCH, kind)
    build = os.path.join(SCRATCH, "build-" + kind)
    run("meson", "setup", build, SOURCE, "--prefix", prefix, "--libdir", "lib", "-Ddefault_library=" + kind,
        "-Dbuildtype=plain", "-Doptimization=0", "-Dtests=disabled", "-Dbenchmarks=disabled", "-Dprograms=disabled",
        "-Dwerror=true", "-Dprobes=" + ("auto" if kind == "shared" else "disabled"), *IN_ONE_UNIT,
        environment={"CXX": os.environ.get("CXX", COMPILERS[0])})
    run("ninja", JOBS, "-C", build)
    run("meson", "install", "-C", build, "--no-rebuild")
    return prefix


def first_header_of(name):
    """What a file of the library includes before anything else; nothing if that is a standard header."""
    with open(os.path.join(SOURCE, name), encoding="utf-8") as file:
        found = re.search(r"^#include <(.*)>", file.read(), re.MULTILINE)
    return found[1] if found and os.path.exists(os.path.join(SOURCE, found[1])) else None


def compiled_with_nothing_before():
    """The headers that a source file of the library begins with, the headers that these begin with, and so on."""
    found = set()
    for name in sources_in(SOURCE):
        while (name := first_header_of(name)) is not None:
            found.add(name)
    return found


class Packaging(CMakeCases, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shutil.rmtree(SCRATCH, ignore_errors=True)
        os.makedirs(SCRATCH)
        cls.prefixes = {kind: install(kind) for kind in ("static", "shared")}

    def runs(self, program, kind="static"):
        environment = {"LD_LIBRARY_PATH": os.path.join(self.prefixes[kind], "lib")} if kind == "shared" else {}
        self.assertEqual(run(program, environment=environment), "embedded\n")

    # ── what is installed ──

    def test_all_public_headers_are_installed_and_no_other(self):
        include = os.path.join(self.prefixes["static"], "include", "reactor")
        tree = {os.path.join(folder, name) for folder in ("reactor", "protocols")
                for name in files_under(os.path.join(SOURCE, folder)) if name.endswith(".hpp")}
        private = {name for name in tree if name.endswith("_impl.hpp") or name.startswith("protocols/programs/")}
        self.assertGreater(len(private), 5)
        self.assertEqual(files_under(include), tree - private)

    def test_nothing_else_lies_about_in_the_prefix(self):
        """Nor where all of this build is installed, with its programs."""
        everything = os.path.join(SCRATCH, "everything")
        run("meson", "install", "-C", os.environ["BUILD"], "--no-rebuild", "--destdir", everything)
        prefix = os.path.join(everything, os.environ["PREFIX"].lstrip("/"))
        for folder in (self.prefixes["shared"], prefix):
            for path in files_under(folder):
                self.assertRegex(path, r"^(include/reactor/|(lib(/[\w-]+)?)/(libreactor(-\w+)?\.|pkgconfig/reactor(-\w+)?\.pc$|cmake/reactor/)"
                                       r"|bin/(echo_client|echo_server|file_server|forwarder|http_get|http_server)$"
                                       r"|share/man/man1/(echo_client|echo_server|file_server|forwarder|http_get|http_server)\.1$)")

    def test_the_shared_library_names_its_interface_and_shows_nothing_internal(self):
        library = os.path.join(self.prefixes["shared"], "lib", "libreactor.so")
        if shutil.which("readelf"):
            self.assertIn("[libreactor.so.0.1]", run("readelf", "-d", library))
        if shutil.which("nm"):
            shown = run("nm", "-DC", "--defined-only", library)
            self.assertIn("reactor::Reactor::run()", shown)
            for internal in ("(anonymous namespace)", "reactor::backends", "make_epoll", "Reactor::Table"):
                self.assertNotIn(internal, shown)

    def test_the_probes_are_there_where_they_were_asked_for_and_nowhere_else(self):
        if not shutil.which("readelf"):
            self.skipTest("there is no readelf")
        self.assertNotIn("Provider:", run("readelf", "-n", os.path.join(self.prefixes["static"], "lib", "libreactor.a")))
        if subprocess.run([COMPILERS[0], "-include", "sys/sdt.h", "-fsyntax-only", "-xc++", os.devnull],
                          stderr=subprocess.DEVNULL, timeout=LIMIT).returncode != 0:
            self.skipTest("there is no sys/sdt.h")
        notes = run("readelf", "-n", os.path.join(self.prefixes["shared"], "lib", "libreactor.so"))
        found = set(re.findall(r"Provider: reactor\s+Name: (\w+)", notes))
        self.assertEqual(found, {"turn_begin", "turn_end", "event", "timer", "connection_opened", "connection_ended"})

    # ── headers ──

    def test_each_header_compiles_alone_and_without_a_warning(self):
        include = os.path.join(self.prefixes["static"], "include", "reactor")

        def compile_alone(header):
            source = os.path.join(SCRATCH, "alone", header + ".cpp")
            write(source, f"#include <{header}>\n#include <{header}>\n")
            run(COMPILERS[-1], *STRICT, "-I" + include, "-fsyntax-only", source)

        # An adapter needs the library that it adapts: its own test compiles it.
        alone = [name for name in files_under(include) - compiled_with_nothing_before() if not name.startswith("reactor/adapters/")]
        self.assertGreater(len(alone), 30)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(compile_alone, sorted(alone)))

    @whole_builds
    def test_what_the_common_headers_cost_is_told(self):
        include = os.path.join(self.prefixes["static"], "include", "reactor")
        source = os.path.join(SCRATCH, "cost.cpp")
        for header in ("reactor/stream/protocol.hpp", "reactor/reactor.hpp", "reactor/stream/acceptor.hpp", "reactor/stream/connector.hpp",
                       "protocols/framing/framed.hpp"):
            write(source, f"#include <{header}>\n")
            for compiler in COMPILERS:
                start = time.monotonic()
                run(compiler, "-std=c++20", "-I" + include, "-fsyntax-only", source)
                print(f"{compiler}: <{header}> alone compiles in {time.monotonic() - start:.2f} s", file=sys.stderr)

    # ── pkg-config ──

    def by_pkg_config(self, compiler, *more):
        """Compiled once, since the flags are the same, and linked with either."""
        compiled = os.path.join(SCRATCH, f"application-{compiler}{''.join(more)}.o")
        for kind in ("static", "shared"):
            environment = {"PKG_CONFIG_PATH": os.path.join(self.prefixes[kind], "lib", "pkgconfig")}
            if not os.path.exists(compiled):
                flags = run("pkg-config", "--cflags", "reactor", environment=environment).split()
                run(compiler, *STRICT, *more, *flags, "-c", os.path.join(HERE, "application.cpp"), "-o", compiled)
            static = ["--static"] if kind == "static" else []
            libraries = run("pkg-config", *static, "--libs", "reactor", environment=environment).split()
            program = os.path.join(SCRATCH, f"application-{compiler}-{kind}{''.join(more)}")
            run(compiler, compiled, *libraries, "-o", program)
            self.runs(program, kind)

    def test_by_pkg_config_with_gcc(self):
        self.with_compiler("g++")

    def test_by_pkg_config_with_clang(self):
        self.with_compiler("clang++")

    def with_compiler(self, compiler):
        if compiler not in COMPILERS:
            self.skipTest(f"there is no {compiler}")
        self.by_pkg_config(compiler)

    def test_by_an_application_without_run_time_types(self):
        self.by_pkg_config(COMPILERS[0], "-fno-rtti")

    # ── CMake ──

    def cmake(self, wanted, kind, build="cmake", target="reactor::reactor"):
        if not shutil.which("cmake"):
            self.skipTest("there is no cmake")
        source = os.path.join(SCRATCH, "cmake-source")
        write(os.path.join(source, "CMakeLists.txt"), f"""
cmake_minimum_required(VERSION 3.18)
project(application CXX)
find_package(reactor {wanted})
add_executable(application {HERE}/application.cpp)
target_compile_options(application PRIVATE {" ".join(STRICT[1:])})
target_link_libraries(application PRIVATE {target})
""")
        folder = os.path.join(SCRATCH, build)
        shutil.rmtree(folder, ignore_errors=True)
        return folder, ("cmake", "-S", source, "-B", folder, "-G", "Ninja", "-DCMAKE_PREFIX_PATH=" + self.prefixes[kind])

    def test_by_cmake(self):
        for kind in ("static", "shared"):
            with self.subTest(kind=kind):
                folder, configure = self.cmake(f"0.1 CONFIG REQUIRED COMPONENTS {kind}", kind)
                run(*configure)
                run("cmake", "--build", folder)
                self.runs(os.path.join(folder, "application"), kind)

    def test_cmake_says_which_components_there_are(self):
        _, configure = self.cmake("0.1 CONFIG REQUIRED COMPONENTS grpc", "static")
        self.assertRegex(fails(*configure), r"(?s)no\s+component\s+'grpc'.*static,\s+shared")
        _, configure = self.cmake("0.1 CONFIG REQUIRED COMPONENTS shared", "static")
        self.assertRegex(fails(*configure), r"(?s)without\s+its\s+shared\s+library")

    def test_cmake_takes_no_other_interface(self):
        for wanted in ("0.2", "0.0.9", "1", "0.1.99"):
            with self.subTest(wanted=wanted):
                _, configure = self.cmake(wanted + " CONFIG REQUIRED", "static")
                self.assertRegex(fails(*configure), r"(?s)compatible\s+with\s+requested\s+version")

    def test_cmake_is_content_where_an_optional_package_has_no_such_component(self):
        _, configure = self.cmake("CONFIG OPTIONAL_COMPONENTS grpc", "static")
        run(*configure)

    def test_the_installed_tree_may_be_moved(self):
        moved = os.path.join(SCRATCH, "moved")
        shutil.rmtree(moved, ignore_errors=True)
        shutil.copytree(self.prefixes["static"], moved)
        _, configure = self.cmake("0.1 CONFIG REQUIRED", "static")
        run(*configure[:-1], "-DCMAKE_PREFIX_PATH=" + moved)
        with open(os.path.join(SCRATCH, "cmake", "build.ninja"), encoding="utf-8") as file:
            self.assertNotIn(self.prefixes["static"], file.read())

    # ── Meson ──

    MESON = """
project('application', 'cpp', default_options: ['cpp_std=c++20', 'warning_level=3', 'werror=true'])
executable('application', 'application.cpp', 'visible.cpp', dependencies: dependency('reactor', version: '>=0.1'), install: true,
  cpp_args: ['-Wconversion', '-Wshadow'])
"""

    def meson_source(self, name):
        source = os.path.join(SCRATCH, name)
        write(os.path.join(source, "meson.build"), self.MESON)
        write(os.path.join(source, "visible.cpp"), VISIBLE)
        shutil.copy(os.path.join(HERE, "application.cpp"), source)
        return source

    # ── with no build system at all ──

    def folder_and_line(self):
        with open(os.path.join(SOURCE, "reactor", "guide", "embedding.md"), encoding="utf-8") as file:
            line = re.search(r"\*\*No build system\*\*\n\n((?:    .*\n)+)", file.read())[1].replace("\\\n", " ")
        folder = os.path.join(SCRATCH, "plain")
        os.makedirs(folder, exist_ok=True)
        shutil.copy(os.path.join(HERE, "application.cpp"), folder)
        link = os.path.join(folder, "reactor")
        if not os.path.islink(link):
            os.symlink(SOURCE, link)
        return folder, line

    def test_the_line_without_a_build_system_names_every_file_that_needs_no_openssl(self):
        folder, line = self.folder_and_line()
        named = run("sh", "-c", "printf '%s\\n' " + re.search(r"\$\(.*\)", line)[0], folder=folder).split()
        wanted = {name for name in sources_in(SOURCE) if "/tls/" not in name and "/websocket/" not in name}
        self.assertEqual({os.path.relpath(name, "reactor") for name in named}, wanted)
        self.assertRegex(line, r"g\+\+ -std=c\+\+20 -I reactor application\.cpp .* -pthread -o application")

    @whole_builds
    def test_the_line_without_a_build_system_makes_a_program(self):
        folder, line = self.folder_and_line()
        run("sh", "-c", line, folder=folder)
        self.runs(os.path.join(folder, "application"))

    # ── by Meson ──

    def test_by_meson_where_it_is_installed(self):
        source = self.meson_source("meson-installed")
        for kind in ("static", "shared"):
            with self.subTest(kind=kind):
                folder = os.path.join(SCRATCH, "meson-installed-" + kind)
                run("meson", "setup", folder, source, "-Dpkg_config_path=" + os.path.join(self.prefixes[kind], "lib/pkgconfig"))
                run("ninja", JOBS, "-C", folder)
                self.runs(os.path.join(folder, "application"), kind)

    def test_by_meson_as_a_subproject(self):
        source = self.meson_source("meson-parent")
        os.makedirs(os.path.join(source, "subprojects"), exist_ok=True)
        link = os.path.join(source, "subprojects", "reactor")
        if not os.path.islink(link):
            os.symlink(SOURCE, link)
        folder = os.path.join(SCRATCH, "meson-parent-build")
        prefix = os.path.join(SCRATCH, "meson-parent-prefix")
        run("meson", "setup", folder, source, "--prefix", prefix, "-Dbuildtype=plain", "-Doptimization=0", *IN_ONE_UNIT)
        run("ninja", JOBS, "-C", folder)
        self.runs(os.path.join(folder, "application"))
        run("meson", "install", "-C", folder, "--no-rebuild")
        self.assertEqual(files_under(prefix), {"bin/application"})
        self.assertIn("No tests defined", run("meson", "test", "-C", folder, "--no-rebuild"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
