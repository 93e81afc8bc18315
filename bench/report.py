"""Prints what the load program measured as tables, backends down and connections across. It measures nothing and needs
nothing but Python's standard library; bench/plot.py draws the same file.

    python3 bench/report.py machine                                 a record of the machine, for that file
    python3 bench/report.py table|comparison|last|micro RESULTS     tables of it"""

import datetime
import json
import math
import os
import platform
import re
import subprocess
import sys


def records(path):
    """Everything that a run wrote: the machine, the loads, the costs."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def read(path):
    """The loads alone."""
    return [result for result in records(path) if "servers" in result]


def median_of(values):
    """[median, low, high] as bench/median.hpp has it: its 95 % interval, or the range of fewer than six values."""
    values = sorted(values)
    count = len(values)
    below = math.floor(count / 2 - 0.98 * math.sqrt(count))
    low = 0 if below < 1 else below - 1
    return [(values[(count - 1) // 2] + values[count // 2]) / 2, values[low], values[count - 1 - low]]


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def print_rows(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                        for column, (cell, width) in enumerate(zip(row, widths))).rstrip())


def print_table(results):
    """One row a backend, for each number of connections its rate and latencies."""
    names = [server["name"] for server in results[0]["servers"]]
    print("\necho, {size} bytes, {in_flight} in flight".format(**results[0]))
    rows = [["connections"], ["backend"]]
    for result in results:
        rows[0] += [str(result["connections"]), "", ""]
        rows[1] += ["messages/s", "p50 us", "p99 us"]
    for name in names:
        row = [name]
        for result in results:
            server = next(server for server in result["servers"] if server["name"] == name)
            row += [number(server["messages_per_second"]), number(server["p50_us"]), number(server["p99_us"])]
        rows.append(row)
    print_rows(rows)


def print_comparison(result):
    """One row a server: its rate and processor time, and how they compare to the first server's."""
    def interval(median):
        return "{:.3f} ({:.3f}-{:.3f})".format(*median) if median[0] else ""

    print("\n{label}: {connections} connections, {idle} idle, {size} bytes, {in_flight} in flight{how}; "
          "{rounds} rounds of {slice_ms} ms".format(how=", connect-echo-close" if result["churn"] else "", **result))
    rows = [["server", "messages/s", "p50 us", "p99 us", "ratio", "CPU ns", "CPU ratio"]]
    for server in result["servers"]:
        rows.append([server["name"], number(server["messages_per_second"]), number(server["p50_us"]),
                     number(server["p99_us"]), interval(server["ratio"]), number(server["cpu_ns"][0]),
                     interval(server["cpu_ratio"])])
    print_rows(rows)


def microbenchmarks(path):
    """What Google Benchmark wrote: the medians where it repeated, otherwise the single runs."""
    with open(path, encoding="utf-8") as file:
        runs = [run for run in json.load(file)["benchmarks"] if not run.get("error_occurred")]
    medians = [run for run in runs if run.get("aggregate_name") == "median"]
    return medians or [run for run in runs if run["run_type"] == "iteration"]


def repeated(path):
    """Of each benchmark the items a second of its repetitions, or of the one run."""
    rates = {}
    with open(path, encoding="utf-8") as file:
        for run in json.load(file)["benchmarks"]:
            if run["run_type"] == "iteration" and not run.get("error_occurred"):
                rates.setdefault(run["run_name"], []).append(run["items_per_second"])
    return rates


def print_microbenchmarks(path):
    """Nanoseconds an item, one row a subject and one column a case; in brackets how they compare to the loop written by
    hand on the same call, where there is one."""
    cases, subjects = [], {}
    for run in microbenchmarks(path):
        title, subject, case = (run["run_name"] + "/").split("/", 2)
        case = re.sub(r"/(iterations:\d+|manual_time|real_time)", "", "/" + case.rstrip("/")).strip("/")
        case = case.replace(":", " ").replace("/", " ")
        if case not in cases:
            cases.append(case)
        subjects.setdefault(subject, {})[case] = 1e9 / run["items_per_second"]
    order = ["bare epoll", "reactor epoll", "bare poll", "reactor poll", "bare select", "reactor select"]
    subjects = dict(sorted(subjects.items(), key=lambda item: (order + [item[0]]).index(item[0])))
    cases.sort(key=lambda case: [int(word) if word.isdigit() else word for word in case.split()])
    print(f"\n{title}: ns an item")
    rows = [[""] + list(subjects)]
    for case in cases:
        row = [case]
        for subject, values in subjects.items():
            floor = subjects.get(subject.replace("reactor", "bare") if "reactor" in subject else "bare epoll", {})
            value = values.get(case)
            cell = "" if value is None else number(value)
            if value is not None and case in floor and not subject.startswith("bare"):
                cell += f" ({value / floor[case]:.2f})"
            row.append(cell)
        rows.append(row)
    print_rows(rows)


def print_machine():
    """A record of the machine and the day, for the pictures. Other work on the machine shows in its load before the run."""
    processor = "processor unknown"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"model name\s*:\s*(.*)", file.read())
        processor = re.sub(r"\s*(\d+-Core )?Processor|\(R\)|\(TM\)", "", found[1]).strip() if found else processor
    compiler = subprocess.run([os.environ.get("CXX", "g++"), "-dumpfullversion"], capture_output=True, text=True, check=False)
    words = [f"{processor}, {os.cpu_count()} processors", f"{platform.system()} {platform.release().split('-')[0]}",
             f"g++ {compiler.stdout.strip()}", datetime.date.today().isoformat()]
    if os.getloadavg()[0] > 0.5:
        words.append(f"beside other work (load {os.getloadavg()[0]:.0f})")
    print(json.dumps({"label": "machine", "text": " · ".join(words)}, ensure_ascii=False))


def main():
    if sys.argv[1:] == ["machine"]:
        return print_machine()
    if len(sys.argv) != 3 or sys.argv[1] not in ("table", "comparison", "last", "micro"):
        sys.exit("usage: report.py machine, or report.py table|comparison|last|micro RESULTS")
    if sys.argv[1] == "micro":
        return print_microbenchmarks(sys.argv[2])
    results = read(sys.argv[2])
    if sys.argv[1] == "table":
        print_table(results)
    else:
        for result in results if sys.argv[1] == "comparison" else results[-1:]:
            print_comparison(result)


if __name__ == "__main__":
    main()
