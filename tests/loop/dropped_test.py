"""An object that cancels when it is destroyed, and is dropped where it is made, is a warning."""

import os
import pathlib
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
COMPILER = sys.argv[1:]

PROGRAM = """
#include <reactor/datagram/packet_acceptor.hpp>
#include <reactor/net/resolver.hpp>
#include <reactor/signals.hpp>
#include <reactor/stream/acceptor.hpp>
#include <reactor/stream/connector.hpp>
#include <reactor/stream/inherited.hpp>
#include <reactor/stream/process.hpp>
#include <reactor/worker_pool.hpp>
using namespace reactor;
void drop(Reactor& loop, const Address& address) {
"""
DROPPED = [
    "Acceptor(loop, \"\", 0, nullptr)",
    "Connector(loop, \"\", 0, nullptr)",
    "Hook(loop, Hook::When::before_wait, nullptr)",
    "PacketAcceptor(loop, address, nullptr)",
    "Process(loop, {}, {}, nullptr)",
    "Resolver(loop, \"\", 0, nullptr)",
    "Signals(loop, {}, nullptr)",
    "Successor(loop, {}, \"\", {}, {}, nullptr)",
    "Timer(loop, nullptr)",
    "WorkerPool(loop, {})",
    "loop.after({}, nullptr)",
    "loop.every({}, nullptr)",
    "loop.defer(nullptr)",
]


class Dropped(unittest.TestCase):
    def warnings(self, statements):
        source = PROGRAM + "".join(statement + ";\n" for statement in statements) + "}\n"
        done = subprocess.run([*COMPILER, "-std=c++20", f"-I{TOP}", "-fsyntax-only", "-x", "c++", "-"], input=source,
                              capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
        return [line for line in done.stderr.splitlines() if "nodiscard" in line and "warning" in line]

    def test_each_dropped_object_is_a_warning_and_one_that_is_kept_is_none(self):
        self.assertEqual(len(self.warnings(DROPPED)), len(DROPPED))
        self.assertEqual(self.warnings(f"const auto& kept{number} = {one}" for number, one in enumerate(DROPPED)), [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
