"""The programs in the pages beside the code run and say by their exit status that all is well; and there is no block of
C++ in any page that is not compiled."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = sys.argv[1:]
NAMES = {os.path.basename(program).removeprefix("page_") for program in PROGRAMS} | {"ask", "echo", "names", "secure", "starttls", "test", "together"}  # tests/embedding has the last one
OVER_TLS = {"page_secure": "TLSv1.3\nhello\n", "page_starttls": "TLSv1.3: the password\n"}


def certificate(folder):
    """The files of a certificate for localhost that has signed itself: chain, key and roots."""
    chain, key = os.path.join(folder, "chain.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", chain],
                   check=True, timeout=60, capture_output=True)
    return [chain, key, chain]


class Pages(unittest.TestCase):
    def test_every_program_runs(self):
        for program in PROGRAMS:
            with self.subTest(program=os.path.basename(program)):
                if os.path.basename(program) in OVER_TLS:
                    continue
                subprocess.run([program], check=True, timeout=60, stdin=subprocess.DEVNULL)

    def test_the_programs_that_speak_tls_say_which_version(self):
        for program in PROGRAMS:
            if expected := OVER_TLS.get(os.path.basename(program)):
                with tempfile.TemporaryDirectory() as folder:
                    result = subprocess.run([program, *certificate(folder)], check=True, timeout=60, text=True,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
                self.assertEqual(result.stdout, expected)

    def test_every_block_is_compiled(self):
        pages = [path for pattern in ("*.md", "reactor/**/*.md", "protocols/**/*.md") for path in pathlib.Path(TOP).glob(pattern)]
        self.assertGreater(len(pages), 5)
        for page in pages:
            for block in re.findall(r"```cpp\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
                first = block.splitlines()[0]
                name = re.fullmatch(r"// (\w+)\.cpp", first)
                self.assertTrue(name and name[1] in NAMES, f"{page}: not compiled: {first}")

    def test_every_link_to_a_file_leads_to_one(self):
        for page in pathlib.Path(TOP).glob("**/*.md"):
            if page.relative_to(TOP).parts[0].startswith("build"):
                continue
            prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
                self.assertTrue((page.parent / link).exists(), f"{page.relative_to(TOP)}: {link}")

    def text(self, path):
        with open(os.path.join(TOP, path), encoding="utf-8") as file:
            return file.read()

    # reactor.hpp draws the loop, guide/loop.md lists the same steps, and the code calls what guide/loop.md says.
    def test_the_loop_is_the_same_in_the_header_the_page_and_the_code(self):
        def picture(path):
            return [line.lstrip("/ ").rstrip() for line in self.text(path).splitlines()
                    if re.search(r"^(//)? +[┌│└].*\d ", line)]

        drawn = picture("reactor/reactor.hpp")
        self.assertEqual(len(drawn), 8)

        steps = re.findall(r"(?m)^\| (\d) \| ([^|]*) \| ([^|]*) \|", self.text("reactor/guide/loop.md"))
        self.assertEqual([(number, what) for number, what, _ in steps],
                         [tuple(re.search(r"(\d) (.*?)(?:   .*)?$", line).groups()) for line in drawn])

        code = self.text("reactor/reactor.cpp")
        at = code.index("void Reactor::turn(")
        for call in re.findall(r"`([^`]*)`", " ".join(calls for _, _, calls in steps)):
            self.assertIn(call, code[at:], f"{call} does not come next")
            at = code.index(call, at)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
