"""The rooms of the source tree lie on floors: a file includes only what lies on its own floor or below it. Public headers
include no private ones, and protocols include no header of the operating system's sockets."""

import pathlib
import re
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
FLOORS = {
    "reactor/detail": 1,
    "reactor/backends": 1,
    "reactor/uring": 1,
    "reactor": 1,
    "reactor/net": 2,
    "reactor/stream": 3,
    "reactor/datagram": 4,  # its acceptor is a stream's acceptor, and it drains with them
    "reactor/adapters": 4,
    "reactor/coroutine": 5,
    "reactor/tls": 4,
    "reactor/testing": 5,
    "protocols": 6,
    "protocols/framing": 6,
    "protocols/examples": 7,
    "protocols/programs": 8,
    "bench": 9,
    "bench/peers": 9,
    "tests": 9,
}
INCLUDE = re.compile(r"^\s*#\s*include\s+([<\"])([^>\"]+)[>\"]", re.MULTILINE)
SOCKETS = re.compile(r"sys/(socket|un|epoll|select|uio)\.h|netinet/|arpa/|netdb\.h|poll\.h")


def room(path):
    """The folder that decides a file's floor: its own, or the nearest one above it."""
    for folder in pathlib.PurePosixPath(path).parents:
        if str(folder) in FLOORS:
            return str(folder)
    return None


def includes(path):
    """The files of this tree, and the others, that a file includes."""
    text = (TOP / path).read_text(encoding="utf-8")
    for bracket, name in INCLUDE.findall(text):
        if bracket == '"':
            yield str((TOP / path).parent.joinpath(name).resolve().relative_to(TOP))
        else:
            yield name


class Floors(unittest.TestCase):
    def setUp(self):
        self.files = sorted(str(path.relative_to(TOP)) for folder in ("reactor", "protocols", "bench", "tests")
                            for path in (TOP / folder).rglob("*.[ch]pp"))
        self.assertGreater(len(self.files), 150)

    def test_no_include_runs_upward(self):
        for path in self.files:
            for name in includes(path):
                if name.startswith(("reactor/", "protocols/")):
                    self.assertTrue((TOP / name).is_file(), f"{path} includes {name}, which is not there")
                    self.assertGreaterEqual(FLOORS[room(path)], FLOORS[room(name)], f"{path} includes {name}")

    def test_a_public_header_includes_no_private_one(self):
        for path in self.files:
            if path.endswith(".hpp") and not path.endswith("_impl.hpp") and path.startswith(("reactor/", "protocols/")):
                if path.startswith("protocols/programs/"):
                    continue
                for name in includes(path):
                    self.assertFalse(name.endswith("_impl.hpp"), f"{path} includes {name}")

    def test_openssl_is_seen_by_the_libraries_of_tls_and_websocket_alone(self):
        for path in self.files:
            if path.startswith(("reactor/", "protocols/")):
                private = path.startswith(("reactor/tls/", "protocols/websocket/")) and path.endswith((".cpp", "_impl.hpp"))
                for name in includes(path):
                    self.assertFalse(name.startswith("openssl/") and not private, f"{path} includes {name}")

    def test_detail_holds_only_headers_that_a_public_header_includes(self):
        included = {name for path in self.files if path.endswith(".hpp") and not path.endswith("_impl.hpp")
                    for name in includes(path)}
        for path in self.files:
            if path.startswith("reactor/detail/") and path.endswith(".hpp"):
                self.assertIn(path, included)

    # An adapter is to be read by its user: it is short, and needs the loop alone and the library that it adapts.
    def test_an_adapter_is_short_and_needs_the_loop_alone(self):
        adapters = [path for path in self.files if path.startswith("reactor/adapters/")]
        self.assertGreater(len(adapters), 6)
        for path in adapters:
            for name in includes(path):
                if name.startswith("reactor/"):
                    self.assertIn(room(name), ("reactor", "reactor/detail", "reactor/adapters"), f"{path} includes {name}")
            lines = [line for line in (TOP / path).read_text(encoding="utf-8").splitlines()
                     if line.strip() and not line.strip().startswith("//")]
            self.assertLessEqual(len(lines), 80, f"{path} has too many lines of code")

    def test_protocols_include_no_socket_header(self):
        for path in self.files:
            if path.startswith("protocols/") and not path.startswith("protocols/programs/"):
                for name in includes(path):
                    self.assertNotRegex(name, SOCKETS, path)

    def test_a_transport_is_easy_to_write_and_transport_knows_none(self):
        for path in ("reactor/stream/transport.hpp", "reactor/stream/detail/stream_state.hpp"):
            text = re.sub(r"//.*", "", (TOP / path).read_text(encoding="utf-8"))
            self.assertNotRegex(text, r"Connection|PipeTransport|MemoryTransport", path)
            self.assertLessEqual(len(re.findall(r"\bvirtual\b", text)), 14, path)


if __name__ == "__main__":
    unittest.main()
