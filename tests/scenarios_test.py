"""Holds tests/scenarios.md to the truth: every number from 1 to 89 has a row, whose tests exist and carry the number,
or which says why there is none; and no test carries a number of which its row says that."""

import pathlib
import re
import unittest

TESTS = pathlib.Path(__file__).parent
NUMBERS = range(1, 90)
# A name, or a row of a table of cases: "S1: …", "S59, S62: …".
NAME = re.compile(r'"(S\d+(?:, S\d+)*): ')
ROW = re.compile(r"^\| S(\d+)(?: ★)? \| (.+?) \| (.+?) \|$", re.MULTILINE)
REASON = re.compile(r"(?:does not apply|not yet): \S.{10,}")


def carried():
    """number → the files with a test that carries it"""
    result = {}
    for source in sorted(TESTS.glob("*_test.cpp")):
        for name in NAME.finditer(source.read_text(encoding="utf-8")):
            for number in re.findall(r"\d+", name[1]):
                result.setdefault(int(number), set()).add(source.name)
    return result


class Scenarios(unittest.TestCase):
    def setUp(self):
        self.rows = ROW.findall((TESTS / "scenarios.md").read_text(encoding="utf-8"))
        self.carried = carried()

    def test_every_number_has_one_row(self):
        self.assertEqual([int(number) for number, _, _ in self.rows], list(NUMBERS))

    def test_every_row_has_tests_that_carry_its_number_or_a_reason(self):
        for number, what, tests in self.rows:
            with self.subTest(scenario=number, what=what):
                named = set(re.findall(r"\w+_test\.cpp", tests))
                if named:
                    self.assertLessEqual(named, self.carried.get(int(number), set()))
                else:
                    self.assertRegex(tests, REASON)
                    self.assertNotIn(int(number), self.carried)

    def test_no_test_carries_a_number_that_does_not_exist(self):
        self.assertLessEqual(set(self.carried), set(NUMBERS))


if __name__ == "__main__":
    unittest.main()
