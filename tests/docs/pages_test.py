"""The programs in the pages beside the code run and say by their exit status that all is well; and there is no block of
C++ in any page that is not compiled."""

import os
import re
import subprocess
import sys
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = sys.argv[1:]
NAMES = {os.path.basename(program).removeprefix("page_") for program in PROGRAMS} | {"ask", "echo", "names", "test"}


class Pages(unittest.TestCase):
    def test_every_program_runs(self):
        for program in PROGRAMS:
            with self.subTest(program=os.path.basename(program)):
                subprocess.run([program], check=True, timeout=60, stdin=subprocess.DEVNULL)

    def test_every_block_is_compiled(self):
        for page in ("README.md", "reactor/LOOP.md", "reactor/PORTING.md", "protocols/TESTING.md"):
            with open(os.path.join(TOP, page), encoding="utf-8") as file:
                for block in re.findall(r"```cpp\n(.*?)```", file.read(), re.DOTALL):
                    first = block.splitlines()[0]
                    name = re.fullmatch(r"// (\w+)\.cpp", first)
                    self.assertTrue(name and name[1] in NAMES, f"{page}: not compiled: {first}")

    def text(self, path):
        with open(os.path.join(TOP, path), encoding="utf-8") as file:
            return file.read()

    # reactor.hpp is where it is drawn: the README shows the same, LOOP.md speaks of the same steps, and the code calls what
    # LOOP.md says.
    def test_the_loop_is_the_same_in_the_header_the_README_the_page_and_the_code(self):
        def picture(path):
            return [line.lstrip("/ ").rstrip() for line in self.text(path).splitlines()
                    if re.search(r"^(//)? +[┌│└].*\d ", line)]

        drawn = picture("reactor/reactor.hpp")
        self.assertEqual(len(drawn), 7)
        self.assertEqual(picture("README.md"), drawn)

        steps = re.findall(r"(?m)^\| (\d) \| ([^|]*) \| ([^|]*) \|", self.text("reactor/LOOP.md"))
        self.assertEqual([(number, what) for number, what, _ in steps],
                         [tuple(re.search(r"(\d) (.*?)(?:   .*)?$", line).groups()) for line in drawn])

        code = self.text("reactor/reactor.cpp")
        at = code.index("void Reactor::turn(")
        for call in re.findall(r"`([^`]*)`", " ".join(calls for _, _, calls in steps)):
            self.assertIn(call, code[at:], f"{call} does not come next")
            at = code.index(call, at)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
