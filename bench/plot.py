"""Draws what was measured as SVG, with nothing but Python's standard library: throughput and latency by connections, and
the cost of an event by idle descriptors. One colour a backend, solid for the reactor and dashed for the loop written by
hand; readable on light and on dark ground. It draws what the files say and leaves out what they lack.

    python3 bench/plot.py RESULTS DISPATCH FOLDER"""

import json
import math
import os
import re
import sys

from report import microbenchmarks, read

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 76, 150, 40, 56

# Told apart by people who see few colours, and dark and light enough for either ground.
COLOURS = {"select": "#d55e00", "poll": "#0c8f6b", "epoll": "#2f7fd0"}
OTHERS = ["#a8629b", "#8a7a12", "#7d7d7d", "#b0524a", "#5c6bc0", "#2a9d9d"]
STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #333 }
    .title { font-size: 15px; font-weight: 600 }
    .grid { stroke: #8884; stroke-width: 1 }
    .axis { stroke: #888; stroke-width: 1 }
    @media (prefers-color-scheme: dark) { text { fill: #ddd } }
"""


def short(value):
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ticks(low, high):
    """1, 2 and 5 of every power of ten within the range, or only the ones if that is crowded."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 3 else (1,)
    return [step * 10.0 ** power for power in powers for step in steps if low <= step * 10.0 ** power <= high * 1.001]


class Plot:
    """Lines over two logarithmic axes."""

    def __init__(self, title, x_title, y_title, lines):
        self.title, self.x_title, self.y_title = title, x_title, y_title
        self.lines = {name: sorted(points) for name, points in lines.items() if points}
        points = [point for line in self.lines.values() for point in line]
        self.xs = sorted({x for x, _ in points})
        self.low = 10 ** (math.floor(math.log10(min(y for _, y in points)) * 4) / 4)
        self.high = 10 ** (math.ceil(math.log10(max(y for _, y in points)) * 4) / 4)

    def x(self, value):
        low, high = math.log10(self.xs[0]), math.log10(self.xs[-1])
        share = (math.log10(value) - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value):
        low, high = math.log10(self.low), math.log10(self.high)
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def svg(self):
        bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
               f"<title>{self.title}</title>", f"<style>{STYLE}</style>",
               f'<text class="title" x="{LEFT}" y="22">{self.title}</text>']
        for value in ticks(self.low, self.high):
            y = self.y(value)
            out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
        for value in self.xs:
            out.append(f'<text x="{self.x(value):.1f}" y="{bottom + 18}" text-anchor="middle">{short(value)}</text>')
        out.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        out.append(f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{self.x_title}</text>')
        out.append(f'<text transform="translate(18 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
                   f"{self.y_title}</text>")
        out += self.drawn_lines(right)
        out.append("</svg>\n")
        return "\n".join(out)

    def drawn_lines(self, right):
        others = iter(OTHERS * 4)
        labels = []
        for name, points in self.lines.items():
            backend = name.split()[-1]
            colour = COLOURS[backend] if backend in COLOURS else next(others)
            dashes = ' stroke-dasharray="5 4"' if name.startswith("bare") else ""
            path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
            yield (f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}>'
                   f"<title>{name}</title></polyline>")
            if not dashes:
                for x, y in points:
                    yield (f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3" fill="{colour}">'
                           f"<title>{name}: {short(x)}, {y:,.1f}</title></circle>")
            labels.append((self.y(points[-1][1]), name, colour))
        # Names stand at the lines' ends, pushed apart where they would lie over each other.
        labels.sort()
        places = []
        for at, _, _ in labels:
            places.append(max(at, places[-1] + 14) if places else at)
        lowest = HEIGHT - BOTTOM
        for i in reversed(range(len(places))):
            places[i] = min(places[i], lowest)
            lowest = places[i] - 14
        for place, (_, name, colour) in zip(places, labels):
            yield (f'<text x="{right + 8}" y="{place + 4:.1f}" style="fill: {colour}">{name}</text>')


def lines_of(results, by, what, chosen):
    lines = {}
    for result in results:
        for server in result["servers"]:
            if chosen(server["name"]):
                lines.setdefault(server["name"], {})[result[by]] = server[what]
    return {name: list(points.items()) for name, points in lines.items()}


def echo_plots(results):
    plain = [result for result in results if not result["idle"] and not result["churn"] and result["size"] == 64
             and result["in_flight"] == 1 and result.get("label") in COLOURS]
    of_ours = lambda name: name.split()[-1] in COLOURS  # and not the bare loops a second time
    of_epoll = lambda name: name.split()[-1] not in ("again", "poll", "select")
    for name, what, title in (("throughput", "messages_per_second", "messages a second"),
                              ("latency", "p50_us", "median latency, microseconds"),
                              ("latency-p99", "p99_us", "99th percentile of latency, microseconds")):
        yield name, f"Echo of 64 bytes: {title}", "connections", title, lines_of(plain, "connections", what, of_ours)
    yield ("libraries", "Echo of 64 bytes, beside other libraries", "connections", "messages a second",
           lines_of([result for result in plain if result["connections"] < 5000], "connections",
                    "messages_per_second", of_epoll))
    idle = [dict(result, watched=result["idle"] + result["connections"]) for result in results
            if result.get("label") == "idle" and result["connections"] == 1]
    yield ("idle", "One busy connection among idle ones", "connections open", "processor time a message, ns",
           lines_of([dict(result, servers=[dict(server, cpu=server["cpu_ns"][0]) for server in result["servers"]
                                           if server["cpu_ns"][0] > 0]) for result in idle],
                    "watched", "cpu", of_ours))


def dispatch_plot(path):
    lines = {}
    for run in microbenchmarks(path):
        found = re.match(r"dispatch/([^/]*)/watched:(\d+)/active:1/", run["run_name"] + "/")
        if found:
            lines.setdefault(found[1], []).append((int(found[2]), 1e9 / run["items_per_second"]))
    return ("dispatch", "One active descriptor among those watched", "descriptors watched", "ns an event", lines)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    results, dispatch, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    plots = list(echo_plots(read(results)))
    if os.path.exists(dispatch):
        plots.append(dispatch_plot(dispatch))
    for name, title, x_title, y_title, lines in plots:
        if not any(lines.values()):
            continue
        with open(os.path.join(folder, name + ".svg"), "w", encoding="utf-8") as file:
            file.write(Plot(title, x_title, y_title, lines).svg())


if __name__ == "__main__":
    main()
