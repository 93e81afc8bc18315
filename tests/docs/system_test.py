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


if __name__ == "__main__":
    unittest.main(verbosity=2)
