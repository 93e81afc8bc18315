"""Counts the test cases in meson's log of test programs. meson counts programs, and is content when there are none;
what matters is how many cases ran. Prints "PASSED FAILED" on standard output and what failed, with its output, on
standard error. Knows doctest's summary and that of Python's unittest; a program that failed, or that says nothing of
any case, is at least one failure. A case that was skipped is neither, and its reason is printed."""

import collections
import json
import re
import sys

DOCTEST = re.compile(r"\[doctest\] test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")
UNITTEST = re.compile(r"^Ran (\d+) tests? in .*\n\s*^(OK|FAILED|NO TESTS RAN)(?: \((.*)\))?", re.MULTILINE)
SKIPPED = re.compile(r"\.\.\. skipped (['\"])(.*)\1$|MESSAGE: skipped: (.*)$", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MOST_LINES = 300


def unittest_counts(ran, details):
    told = {name: int(count) for name, count in re.findall(r"([a-z ]+?)=(\d+)", details or "")}
    told = {name.strip(): count for name, count in told.items()}
    failed = told.get("failures", 0) + told.get("errors", 0) + told.get("unexpected successes", 0)
    return max(0, ran - failed - told.get("skipped", 0)), failed


def count(output):
    """(ran, passed, failed) as the summaries in the output say, all of them added."""
    ran = passed = failed = 0
    for summary in DOCTEST.finditer(output):
        ran += int(summary[1])
        passed += int(summary[2])
        failed += int(summary[3])
    for summary in UNITTEST.finditer(output):
        good, bad = unittest_counts(int(summary[1]), summary[3])
        ran += int(summary[1])
        passed += good
        failed += bad
    return ran, passed, failed


def skipped(output):
    """The reasons for which cases were skipped, and how many each."""
    return collections.Counter(reason[1] or reason[2] for reason in SKIPPED.findall(output))


def main():
    passed = failed = 0
    try:
        with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except OSError as error:
        sys.exit(f"meson left no log: {error}")
    for test in tests:
        output = COLOUR.sub("", test.get("stdout", "") + "\n" + test.get("stderr", ""))
        ran, good, bad = count(output)
        for why, cases in skipped(output).items():
            print(f"-- {test['name']}: skipped{f' ({cases} times)' if cases > 1 else ''}: {why}", file=sys.stderr)
        reason = None
        if test["result"] == "SKIP":
            print(f"-- {test['name']}: skipped", file=sys.stderr)
        elif test["result"] != "OK":
            reason = f"{test['result'].lower()}, exit status {test.get('returncode')}"
        elif bad > 0:
            reason = "failed, and yet its exit status is 0"
        elif ran == 0:
            reason = "ran no test case, or does not say so"
        if reason is not None:
            bad = max(bad, 1)
            lines = output.strip().splitlines()
            if len(lines) > MOST_LINES:
                lines = lines[:MOST_LINES // 2] + ["[...]"] + lines[-MOST_LINES // 2:]
            print(f"-- {test['name']}: {reason}", *lines, sep="\n   ", file=sys.stderr)
        passed += good
        failed += bad
    print(passed, failed)


if __name__ == "__main__":
    main()
