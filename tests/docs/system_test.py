"""One header asks which system this is, reactor/system_impl.hpp. Everything else in the library asks that header for a
feature: so a build with REACTOR_PORTABLE hides all that POSIX does not know, and no branch is forgotten."""

import os
import re
import unittest

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
HEADER = "reactor/system_impl.hpp"

# The names of systems, and of what their headers define.
SYSTEMS = re.compile(r"\b(__linux__|linux|__unix__|__APPLE__|_WIN32|__\w*BSD__|__DragonFly__|__GLIBC__|__GLIBC_MINOR__|__MUSL__|"
                     r"(?:EAI|EFD|EPOLL\w*|F|IP|IPV6|MSG|O|POLL\w*|SCM|SO|SOCK|SPLICE|SYS|TCP|TIOC\w*|UDP)_?[A-Z_]\w+)\b")
# Calls that not every system has. Those by number are found by it, the others by their names.
BEYOND_POSIX = re.compile(r"::syscall\((?:SYS|__NR)_(\w+)|::(accept4|close_range|copy_file_range|dup3|epoll_\w+|eventfd|getentropy|"
                          r"getrandom|inotify_\w+|memfd_create|mremap|openat2|pidfd_\w+|pipe2|ppoll|preadv2?|process_\w+|pselect|pwritev2?|"
                          r"recvmmsg|sendfile|sendmmsg|signalfd|splice|statx|sync_file_range|tee|timerfd_\w+|vmsplice)\(")
FEATURE = re.compile(r"REACTOR_HAS\((\w+)\)")


def conditions():
    for top in ("reactor", "protocols", "tests"):
        for folder, _, files in os.walk(os.path.join(SOURCE, top)):
            for name in files:
                path = os.path.relpath(os.path.join(folder, name), SOURCE)
                if not name.endswith((".cpp", ".hpp")) or path == HEADER:
                    continue
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    for number, line in enumerate(file, 1):
                        yield path, number, line


class System(unittest.TestCase):
    def test_the_library_asks_one_header_which_system_this_is(self):
        for path, number, line in conditions():
            found = re.match(r"\s*#\s*(?:if|ifdef|ifndef|elif)\s+(.*)", line)
            if not found or not path.startswith(("reactor/", "protocols/")):
                continue
            others = SYSTEMS.findall(FEATURE.sub("", found.group(1).split("//")[0]))
            self.assertEqual(others, [], f"{path}:{number}: ask a feature of {HEADER}")

    def test_every_feature_that_is_asked_for_is_defined_and_every_one_that_is_defined_is_asked_for(self):
        with open(os.path.join(SOURCE, HEADER), encoding="utf-8") as file:
            defined = set(re.findall(r"#define REACTOR_HAS_(\w+)", file.read()))
        asked = {feature for _, _, line in conditions() for feature in FEATURE.findall(line)}
        self.assertEqual(asked - {"feature"}, defined)

    def test_a_kernel_without_the_call_is_tested_for_every_call_that_posix_does_not_know(self):
        with open(os.path.join(SOURCE, "tests/faults/faults_old_kernel_test.cpp"), encoding="utf-8") as file:
            tested = set(re.findall(r"Call::(\w+)", file.read())) - {"none"}
        made = {by_number or by_name for path, _, line in conditions()
                if path.startswith("reactor/") and not path.startswith("reactor/adapters/")
                for by_number, by_name in BEYOND_POSIX.findall(line)}
        self.assertEqual(made - {"epoll_create"}, tested)  # which is what epoll_create1 falls back on


if __name__ == "__main__":
    unittest.main(verbosity=2)
