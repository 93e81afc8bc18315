"""A Conan 2 recipe. Written and not run: see ../README.md."""

import os

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout


class Reactor(ConanFile):
    name = "reactor"
    version = "0.1.0"
    license = "MIT"
    description = "An event loop for C++20: connections, datagrams, pipes and children on one thread"
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "portable": [True, False], "probes": [True, False], "tls": [True, False],
               "websocket": [True, False], "deflate": [True, False]}
    default_options = {"shared": False, "portable": False, "probes": False, "tls": True, "websocket": True, "deflate": False}

    @property
    def top(self):
        return os.path.join(self.recipe_folder, "..", "..", "..")

    @property
    def compresses(self):
        return self.options.websocket and self.options.deflate

    def export_sources(self):
        for name in ("CMakeLists.txt", "meson.build", "meson_options.txt", "LICENSE"):
            self.copy_file(name)
        for name in ("reactor", "protocols"):
            self.copy_folder(name)

    def copy_file(self, name):
        from conan.tools.files import copy
        copy(self, name, self.top, self.export_sources_folder)

    def copy_folder(self, name):
        from conan.tools.files import copy
        copy(self, name + "/*", self.top, self.export_sources_folder)

    def requirements(self):
        if self.options.tls or self.options.websocket:
            self.requires("openssl/[>=3.0 <4]", transitive_headers=False)
        if self.compresses:
            self.requires("zlib/[>=1.2 <2]", transitive_headers=False)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for option in ("portable", "probes", "tls", "websocket", "deflate"):
            toolchain.variables["REACTOR_" + option.upper()] = bool(self.options.get_safe(option))
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "reactor")
        self.cpp_info.includedirs = ["include/reactor"]
        optional = [name for name in ("tls", "websocket") if self.options.get_safe(name)]
        for library in ["reactor", "http", *optional]:
            component = self.cpp_info.components[library]
            component.set_property("cmake_target_name", "reactor::" + library)
            component.includedirs = ["include/reactor"]
            component.libs = ["reactor" if library == "reactor" else "reactor-" + library]
            component.requires = [] if library == "reactor" else ["reactor"]
        for library in optional:
            self.cpp_info.components[library].requires.append("openssl::openssl")
        if "websocket" in optional:
            self.cpp_info.components["websocket"].requires.append("http")
            if self.compresses:
                self.cpp_info.components["websocket"].requires.append("zlib::zlib")
        if self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.components["reactor"].system_libs = ["pthread"]
