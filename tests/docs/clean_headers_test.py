"""The public headers, and a recipe of the cookbook that uses many of them, compile without a warning under the flags of
strict programs, with each compiler that there is. A header's warning would be in every program that includes it."""

import re
import shutil
import subprocess
import unittest

from class_comments_test import TOP, headers

FLAGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wnon-virtual-dtor", "-Wold-style-cast",
         "-Wmissing-field-initializers", "-Werror"]
NEED_OTHERS = ("reactor/adapters/", "reactor/tls/", "protocols/http/over_tls.hpp")  # headers of other libraries, which may not be installed


class CleanHeaders(unittest.TestCase):
    def test_no_header_warns(self):
        names = [str(path.relative_to(TOP)) for path in headers()]
        program = "".join(f"#include <{name}>\n" for name in names if not name.startswith(NEED_OTHERS))
        cookbook = (TOP / "reactor/guide/cookbook.md").read_text(encoding="utf-8")
        program += re.search(r"```cpp\n// pool\.cpp\n(.*?)```", cookbook, re.DOTALL)[1]
        compilers = [compiler for compiler in ("g++", "clang++") if shutil.which(compiler)]
        if not compilers:
            self.skipTest("no compiler of a name that is known here")
        for compiler in compilers:
            with self.subTest(compiler):
                result = subprocess.run([compiler, "-std=c++20", "-fsyntax-only", *FLAGS, f"-I{TOP}", "-x", "c++", "-"],
                                        input=program, capture_output=True, text=True, timeout=300)
                self.assertEqual(result.returncode, 0, result.stderr[:2000])


if __name__ == "__main__":
    unittest.main()
