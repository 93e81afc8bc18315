"""The pictures of the benchmarks are read on a light page and on a dark one, say from which machine and day they are, and
mark their logarithmic axes. New ones, drawn here from made-up results, and those in the pages."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

TOP = pathlib.Path(__file__).resolve().parents[2]
MACHINE = "A Processor, 2 processors · Linux 6 · g++ 12 · 2026-01-31"
PAGES = ("#ffffff", "#0d1117")  # GitHub's, light and dark
LEAST_CONTRAST = 3  # WCAG 2.1, 1.4.11: of graphics


def results():
    """What bench/run writes, small."""
    yield {"label": "machine", "text": MACHINE}
    for backend, rate in (("epoll", 50e3), ("poll", 40e3), ("select", 30e3)):
        for connections in (1, 50, 1000):
            servers = [{"name": name, "rate": [rate, rate * 0.9, rate * 1.1], "p99_ns": [9e4, 8e4, 2e5],
                        "ratio": [0.98, 0.9, 1.05], "cpu_ns": [9e3, 8e3, 1e4]}
                       for name in (f"bare {backend}", f"bare {backend} again", f"reactor {backend}", "libuv")]
            load = {"label": backend, "connections": connections, "idle": 0, "size": 64, "in_flight": 1, "churn": False}
            yield dict(load, servers=servers)
            yield dict(load, label="idle", connections=1, idle=connections * 10, servers=servers)
    for connections in (1, 50, 1000):
        servers = [{"name": f"reactor {name}", "rate": [rate, rate, rate], "p99_ns": [9e4, 8e4, 2e5],
                    "ratio": [1, 1, 1], "cpu_ns": [9e3, 8e3, 1e4]}
                   for name, rate in (("epoll", 12345), ("io_uring", 54321))]
        yield {"label": "io_uring", "connections": connections, "idle": 0, "size": 64, "in_flight": 1, "churn": False,
               "servers": servers}
    for name, scale in (("bare epoll", 1), ("reactor epoll", 1.4), ("reactor io_uring", 5), ("libuv", 4), ("asio", 17)):
        yield {"label": "costs", "name": name, "instructions": [80 * scale, 79 * scale, 81 * scale],
               "system_calls": [2.02, 2.01, 2.1], "idle_bytes": [60 * scale, 55 * scale, 70 * scale]}


def luminance(colour):
    """WCAG 2.1's relative luminance."""
    parts = [int(colour[at:at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


class Plots(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory() as folder:
            written = pathlib.Path(folder, "results.json")
            written.write_text("".join(json.dumps(result) + "\n" for result in results()), encoding="utf-8")
            dispatch = pathlib.Path(folder, "dispatch.json")
            dispatch.write_text(json.dumps({"benchmarks": [
                {"run_type": "iteration", "run_name": f"dispatch/{name}/watched:{watched}/active:1/real_time",
                 "items_per_second": 1e9 / (1000 + watched)}
                for name in ("bare epoll", "reactor epoll") for watched in (1, 100, 10000)]}), encoding="utf-8")
            subprocess.run([sys.executable, TOP / "bench/plot.py", written, dispatch, folder], check=True, timeout=60)
            cls.drawn = {path.stem: path.read_text(encoding="utf-8") for path in pathlib.Path(folder).glob("*.svg")}
        cls.kept = {path.stem: path.read_text(encoding="utf-8") for path in (TOP / "bench/plots").glob("*.svg")}

    def test_each_result_has_its_picture_and_each_page_the_same_ones(self):
        self.assertEqual(set(self.drawn), {"throughput", "latency-p99", "idle", "ratios", "libraries", "dispatch"})
        self.assertEqual(set(self.kept), set(self.drawn))

    def test_a_backend_is_drawn_as_it_was_beside_the_loops_of_its_own_kind(self):
        self.assertIn("reactor io_uring: 50, 5.432e+04", self.drawn["throughput"])
        self.assertNotIn("1.234e+04", self.drawn["throughput"])  # of epoll, beside which io_uring was measured
        self.assertIn("reactor, io_uring", self.drawn["libraries"])

    def test_every_colour_is_seen_on_a_light_page_and_on_a_dark_one(self):
        for name, text in [*self.drawn.items(), *self.kept.items()]:
            colours = set(re.findall(r"#[0-9a-f]{6}\b", text))
            self.assertGreater(len(colours), 1, name)
            for colour in colours:
                for page in PAGES:
                    self.assertGreaterEqual(contrast(colour, page), LEAST_CONTRAST, f"{name}: {colour} on {page}")

    def test_a_picture_says_its_machine_and_day_and_marks_logarithmic_axes(self):
        for name, text in self.drawn.items():
            self.assertIn(MACHINE, text, name)
            self.assertEqual("logarithmic" in text, name != "ratios", name)
        for name, text in self.kept.items():
            self.assertTrue(re.search(r"Linux \d.*\d{4}-\d\d-\d\d", text), name)

    def test_names_are_at_the_ends_of_their_lines_and_apart(self):
        places = {}
        for element in xml.etree.ElementTree.fromstring(self.drawn["throughput"]).iter("{http://www.w3.org/2000/svg}text"):
            if (element.text or "").startswith("reactor "):
                places[element.text] = (float(element.get("x")), float(element.get("y")))
        self.assertEqual(set(places), {"reactor epoll", "reactor io_uring", "reactor poll", "reactor select"})
        heights = sorted(y for _, y in places.values())
        self.assertGreaterEqual(min(b - a for a, b in zip(heights, heights[1:])), 12)
        self.assertEqual(len({x for x, _ in places.values()}), 1)


if __name__ == "__main__":
    unittest.main()
