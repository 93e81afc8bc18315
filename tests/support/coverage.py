"""Which lines and branches of the library the tests have run, as gcov counted them: coverage.py BUILD-FOLDER [LEAST].
Prints a line for each file of reactor/ and protocols/, with the lines that no test has run, and the sums; fails if less
than LEAST per cent of the lines were run. What is compiled into several programs, or for several types, counts as run
where any of them has run it. Branches into the handling of exceptions are left out: the compiler makes one of every
call that might throw, and nobody wrote them."""

import collections
import concurrent.futures
import json
import os
import subprocess
import sys

FOLDERS = ("reactor/", "protocols/")
SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def counted(build, data):
    """What gcov says of one object file's counters."""
    told = subprocess.run(["gcov", "--branch-probabilities", "--json-format", "--stdout", data], cwd=build,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    for document in told.splitlines():
        for file in json.loads(document)["files"]:
            path = os.path.relpath(os.path.join(build, file["file"]), SOURCE)
            if path.startswith(FOLDERS):
                yield path, file["lines"]


def ranges(numbers):
    """[1, 2, 3, 7] as "1-3 7"."""
    spans = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def share(run, of):
    return 100 * run / of if of else 100.0


def main():
    build = os.path.abspath(sys.argv[1])
    least = float(sys.argv[2]) if len(sys.argv) > 2 else 0
    data = [os.path.join(folder, name) for folder, _, names in os.walk(build) for name in names
            if name.endswith(".gcda")]
    lines = collections.defaultdict(collections.Counter)     # file → line → how often it was run
    branches = collections.defaultdict(collections.Counter)  # file → (line, which) → how often it was taken
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda name: list(counted(build, name)), sorted(data)):
            for path, told in found:
                for line in told:
                    lines[path][line["line_number"]] += line["count"]
                    own = [branch for branch in line["branches"] if not branch["throw"]]
                    for which, branch in enumerate(own):
                        branches[path][line["line_number"], which] += branch["count"]
    sums = [0, 0, 0, 0]
    print(f"{'':42} {'lines':>20} {'branches':>20}   not run")
    for path in sorted(lines):
        numbers = [sum(count > 0 for count in lines[path].values()), len(lines[path]),
                   sum(count > 0 for count in branches[path].values()), len(branches[path])]
        sums = [total + number for total, number in zip(sums, numbers)]
        missing = ranges(number for number, count in lines[path].items() if count == 0)
        print(f"{path:42} {numbers[0]:4} of {numbers[1]:4} {share(*numbers[:2]):5.1f} % "
              f"{numbers[2]:4} of {numbers[3]:4} {share(*numbers[2:]):5.1f} %   {missing}".rstrip())
    print(f"{sums[0]} of {sums[1]} lines ({share(*sums[:2]):.1f} %), "
          f"{sums[2]} of {sums[3]} branches ({share(*sums[2:]):.1f} %)")
    if not lines or share(*sums[:2]) < least:
        sys.exit(f"less than {least:g} % of the lines were run")


if __name__ == "__main__":
    main()
