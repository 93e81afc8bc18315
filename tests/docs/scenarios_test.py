"""Every number in scenarios.md has a test that carries it, or a row that says why there is none."""

import pathlib
import re
import unittest

HERE = pathlib.Path(__file__).parent
TESTS = HERE.parent
# A name, a row of a table of cases, a docstring: "S1: …", "S59, S62: …".
NAME = re.compile(r'"(S\d+(?:, S\d+)*): ')
ROW = re.compile(r"^\| S(\d+)(?: ★)? \| (.+?) \|$", re.MULTILINE)
REASON = re.compile(r"no test: \S.{10,}")


def carried():
    """The numbers that a test carries."""
    result = set()
    for source in [*TESTS.rglob("*_test.cpp"), *TESTS.rglob("*_test.py")]:
        for name in NAME.finditer(source.read_text(encoding="utf-8")):
            result.update(int(number) for number in re.findall(r"\d+", name[1]))
    return result


class Scenarios(unittest.TestCase):
    def setUp(self):
        self.rows = ROW.findall((HERE / "scenarios.md").read_text(encoding="utf-8"))
        self.carried = carried()

    def test_the_numbers_are_in_order_and_without_a_gap(self):
        self.assertEqual([int(number) for number, _ in self.rows], list(range(1, len(self.rows) + 1)))
        self.assertGreaterEqual(len(self.rows), 110)

    def test_every_number_has_a_test_or_a_reason(self):
        for number, what in self.rows:
            with self.subTest(scenario=number, what=what):
                self.assertNotEqual(bool(REASON.match(what)), int(number) in self.carried)

    def test_no_test_carries_a_number_that_does_not_exist(self):
        self.assertLessEqual(self.carried, {int(number) for number, _ in self.rows})


if __name__ == "__main__":
    unittest.main()
