"""Every source file looks as .clang-format says."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import unittest

TOP = pathlib.Path(__file__).resolve().parents[2]
FORMATTER = sys.argv[1] if len(sys.argv) > 1 else "clang-format-14"
FOLDERS = ("reactor", "protocols", "bench", "tests")


def differs(path):
    """True if the formatter would change the file."""
    text = path.read_bytes()
    result = subprocess.run([FORMATTER, "--style=file", f"--assume-filename={path}"], input=text, capture_output=True,
                            check=True, timeout=60)
    return result.stdout != text


class Format(unittest.TestCase):
    def test_every_source_file_is_formatted(self):
        sources = [path for folder in FOLDERS for path in sorted((TOP / folder).rglob("*.[ch]pp"))]
        self.assertGreater(len(sources), 100)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            changed = [str(path.relative_to(TOP)) for path, wrong in zip(sources, pool.map(differs, sources)) if wrong]
        self.assertEqual(changed, [], "clang-format -i mends these")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
