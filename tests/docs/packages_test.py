"""tests/run and bench/run say what to install on a system without dpkg, in the words of its own package manager."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
MANAGERS = {
    "dnf": "sudo dnf install gcc-c++ meson ninja-build pkgconf-pkg-config doctest-devel cli11-devel fmt-devel "
           "google-benchmark-devel openssl-devel openssl python3",
    "apk": "apk add g++ linux-headers meson ninja pkgconf doctest-dev cli11-dev fmt-dev benchmark-dev openssl-dev openssl python3",
    "pacman": "sudo pacman -S --needed gcc meson ninja pkgconf doctest cli11 fmt benchmark openssl python",
    "brew": "brew install meson ninja pkgconf doctest cli11 fmt google-benchmark openssl@3 python3",
}


def said(tools, script, *options):
    """What a script prints where these commands are all there are, besides a shell's."""
    with tempfile.TemporaryDirectory() as folder:
        for tool in tools:
            path = pathlib.Path(folder, tool)
            path.write_text("#!/bin/sh\n", encoding="utf-8")
            path.chmod(0o755)
        for tool in ("cat", "dirname", "nproc"):
            os.symlink(subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip(),
                       os.path.join(folder, tool))
        result = subprocess.run(["/bin/bash", str(TOP / script), *options], env={"PATH": folder}, stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=60)
    return result.returncode, result.stderr


class Packages(unittest.TestCase):
    def test_each_package_manager_is_named_with_its_own_names(self):
        for manager, line in MANAGERS.items():
            with self.subTest(manager=manager):
                status, output = said([manager], "tests/run")
                self.assertEqual(status, 1)
                self.assertIn("not installed: g++ meson ninja pkg-config python3; install with:", output)
                self.assertIn("    " + line + "\n", output)

    def test_bench_run_names_them_as_well(self):
        status, output = said(["dnf"], "bench/run")
        self.assertEqual(status, 1)
        self.assertRegex(output, r"sudo dnf install gcc-c\+\+ meson .*google-benchmark-devel")

    def test_a_package_whose_name_elsewhere_is_not_known_is_named_as_debian_names_it(self):
        status, output = said(["apk"], "bench/run", "--costs")
        self.assertEqual(status, 1)
        self.assertRegex(output, r"    apk add .* python3\n    and these, by Debian's names: libevent-dev .*strace\n$")

    def test_an_unknown_system_gets_the_names_of_debian(self):
        status, output = said([], "tests/run")
        self.assertEqual(status, 1)
        self.assertIn("these packages, by Debian's names: g++ meson ninja-build", output)

    def test_no_package_of_tests_run_belongs_to_one_release_of_debian_alone(self):
        script = (TOP / "tests" / "run").read_text(encoding="utf-8")
        self.assertEqual(re.findall(r"\b(?:clang|libclang-rt|llvm)-\d+\S*", script), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
