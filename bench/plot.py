"""Draws what was measured as SVG, with nothing but Python's standard library: rate, latency and processor time over two
logarithmic axes, and what differs between libraries as dots with their intervals. Every colour is of middle brightness,
so that the pictures are read on a light page as on a dark one. It draws what the files say and leaves out what they lack.

    python3 bench/plot.py RESULTS DISPATCH FOLDER"""

import json
import math
import os
import re
import sys
from html import escape

from report import median_of, read, records, repeated

# As far from white as from a dark page's ground (a contrast of 4.3 to each), also for people who see few colours.
GREY = "#797979"
COLOURS = {"select": "#d0581a", "poll": "#0d8a68", "epoll": "#2f7fd0", "io_uring": "#9560c8"}
OTHERS = ["#a8629b", "#8a7a12", "#b0524a", "#5c6bc0", "#2a8f8f"]
STYLE = f"""
    text {{ font: 12px system-ui, sans-serif; fill: {GREY} }}
    .title {{ font-size: 15px; font-weight: 600 }}
    .small {{ font-size: 11px }}
    .grid {{ stroke: {GREY}; stroke-opacity: 0.25 }}
    .axis {{ stroke: {GREY} }}
"""


def short(value):
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def ticks(low, high, decades=2.5):
    """1, 2 and 5 of every power of ten within the range, or only the ones if the range has more decades than that."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) <= decades else (1,)
    return [step * 10.0 ** power for power in powers for step in steps if low * 0.999 <= step * 10.0 ** power <= high * 1.001]


def even_ticks(low, high):
    """At most five round numbers within the range."""
    step = next(step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if (high - low) / step <= 5)
    return [step * i for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


class Axis:
    """Values on the pixels from `start` to `end`, by their logarithm or as they are."""

    def __init__(self, low, high, start, end, log=True):
        self.log, self.start, self.end = log, start, end
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)

    def __call__(self, value):
        value = math.log10(value) if self.log else value
        share = (value - self.low) / ((self.high - self.low) or 1)
        return self.start + share * (self.end - self.start)


def text(x, y, words, anchor="start", kind="", colour=None):
    style = f' style="fill: {colour}"' if colour else ""
    kind = f' class="{kind}"' if kind else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def line(x1, y1, x2, y2, more):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'


def picture(width, height, title, machine, parts):
    """The whole file: title above, and below it the machine, so that the picture says by itself where it is from."""
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
                      f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", text(16, 24, title, kind="title"),
                      *parts, text(16, height - 10, machine, kind="small"), "</svg>\n"])


def lines_picture(title, x_title, y_title, lines, note, machine):
    """Lines with intervals over two logarithmic axes. `lines` has for each name its (x, (value, low, high)) points. A
    line whose name begins with "bare" is thin and dashed, and `note` says so instead of a label."""
    width, height, left, right, top, bottom = 720, 430, 84, 580, 44, 336
    points = [point for line_points in lines.values() for point in line_points]
    xs = sorted({x for x, _ in points})
    low = min(bounds[1] for _, bounds in points)
    high = max(bounds[2] for _, bounds in points)
    x_axis = Axis(xs[0], xs[-1], left + 10, right - 6)
    y_axis = Axis(10 ** (math.floor(math.log10(low) * 8) / 8), 10 ** (math.ceil(math.log10(high) * 8) / 8), bottom, top)
    out = []
    for value in ticks(10 ** y_axis.low, 10 ** y_axis.high):
        out += [line(left, y_axis(value), right, y_axis(value), 'class="grid"'),
                text(left - 8, y_axis(value) + 4, short(value), "end")]
    for x in xs:
        out += [line(x_axis(x), bottom, x_axis(x), bottom + 5, 'class="axis"'), text(x_axis(x), bottom + 20, short(x), "middle")]
    out += [line(left, bottom, right, bottom, 'class="axis"'), line(left, top, left, bottom, 'class="axis"'),
            text((left + right) / 2, bottom + 40, f"{x_title} (logarithmic)", "middle"),
            f'<text transform="translate(22 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">'
            f"{escape(y_title)} (logarithmic)</text>"]

    others = iter(OTHERS * 4)
    labels = []
    for name, line_points in lines.items():
        line_points = sorted(line_points)
        backend = name.split()[-1]
        colour = COLOURS[backend] if backend in COLOURS else next(others)
        bare = name.startswith("bare")
        path = " ".join(f"{x_axis(x):.1f},{y_axis(bounds[0]):.1f}" for x, bounds in line_points)
        look = 'stroke-width="1" stroke-dasharray="4 3"' if bare else 'stroke-width="2"'
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" {look}><title>{escape(name)}</title></polyline>')
        if bare:
            continue
        for x, (value, least, most) in line_points:
            at = x_axis(x)
            out += [line(at, y_axis(least), at, y_axis(most), f'stroke="{colour}" stroke-width="5" stroke-opacity="0.5"'),
                    f'<circle cx="{at:.1f}" cy="{y_axis(value):.1f}" r="3" fill="{colour}">'
                    f"<title>{escape(name)}: {short(x)}, {value:,.4g} ({least:,.4g} to {most:,.4g})</title></circle>"]
        labels.append((y_axis(line_points[-1][1][0]), name, colour))
    # Names are at the ends of their lines, pushed apart if they would lie over each other.
    labels.sort()
    places = []
    for at, _, _ in labels:
        places.append(max(at, places[-1] + 15) if places else at)
    lowest = bottom
    for i in reversed(range(len(places))):
        places[i] = min(places[i], lowest)
        lowest = places[i] - 15
    for place, (at, name, colour) in zip(places, labels):
        out += [line(right - 2, at, right + 12, place, f'stroke="{colour}" stroke-opacity="0.5"'),
                text(right + 16, place + 4, name, colour=colour)]
    out.append(text(16, height - 28, note, kind="small"))
    return picture(width, height, title, machine, out)


def dots_picture(title, panels, note, machine):
    """A row for each name, and in each panel its value as a dot on its interval. A panel is (title, logarithmic, the
    value that is marked, or None, how a value is written, {name: (value, low, high)})."""
    names = list(dict.fromkeys(name for *_, values in panels for name in values))
    row, left, top, width = 24, 126, 74, 720
    height = top + row * len(names) + 74
    bottom = top + row * len(names)
    gap = 22
    wide = (width - left - 16 - gap * (len(panels) - 1)) / len(panels)
    out = []
    for i, name in enumerate(names):
        ours = name.startswith("reactor")
        out.append(text(left - 12, top + row * i + row / 2 + 4, name, "end", colour=COLOURS["epoll"] if ours else None))
    for number, (words, log, marked, written, values) in enumerate(panels):
        start = left + number * (wide + gap)
        low, high = min(value[1] for value in values.values()), max(value[2] for value in values.values())
        if marked is not None:
            low, high = min(low, marked), max(high, marked)
        # On a logarithmic axis the least dot is not at the edge; the others begin at zero, unless they are ratios.
        low, high = (low / 1.3, high * 1.1) if log else (low - (high - low) * 0.08 if marked is not None else 0, high)
        axis = Axis(low, high, start, start + wide - 48, log)
        out += [text(start, top - 30, words), text(start, top - 14, "logarithmic" if log else "linear", kind="small"),
                line(start, bottom, start + wide - 48, bottom, 'class="axis"')]
        for mark in ticks(low, high, 1) if log else even_ticks(low, high):
            out += [line(axis(mark), top - 4, axis(mark), bottom, 'class="grid"'),
                    text(axis(mark), bottom + 16, short(mark), "middle", kind="small")]
        if marked is not None:
            out.append(line(axis(marked), top - 4, axis(marked), bottom, 'class="axis"'))
        for i, name in enumerate(names):
            if name not in values:
                continue
            value, least, most = values[name]
            y = top + row * i + row / 2
            ours = name.startswith("reactor")
            colour = COLOURS["epoll"] if ours else GREY
            fill = "none" if name.startswith("bare") else colour
            out += [line(axis(least), y, axis(most), y, f'stroke="{colour}" stroke-width="3" stroke-opacity="0.6"'),
                    f'<circle cx="{axis(value):.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5">'
                    f"<title>{escape(name)}: {value:,.5g} ({least:,.5g} to {most:,.5g})</title></circle>",
                    text(max(axis(value), axis(most)) + 9, y + 4, written(value), kind="small", colour=colour)]
    out.append(text(16, height - 30, note, kind="small"))
    return picture(width, height, title, machine, out)


def lines_of(results, by, what, chosen):
    lines = {}
    for result in results:
        for server in result["servers"]:
            if chosen(result, server["name"]) and what(server) is not None:
                lines.setdefault(server["name"], {})[result[by]] = what(server)
    return {name: list(points.items()) for name, points in lines.items() if points}


def echo_pictures(results, machine):
    plain = [result for result in results if not result["idle"] and not result["churn"] and result["size"] == 64
             and result["in_flight"] == 1 and result.get("label") in COLOURS]
    of_its_backend = lambda result, name: name.split()[-1] == result["label"]  # and not the bare loops a second time
    note = "Bars: 95 % interval of the median round. Dashed: a loop written by hand on the same call."
    for name, title, y_title, what in (
            ("throughput", "Echo of 64 bytes: messages a second", "messages a second", lambda server: server.get("rate")),
            ("latency-p99", "Echo of 64 bytes: 99th percentile of latency", "microseconds",
             lambda server: [value / 1e3 for value in server["p99_ns"]] if "p99_ns" in server else None)):
        lines = lines_of(plain, "connections", what, of_its_backend)
        if lines:
            yield name, lines_picture(title, "connections", y_title, lines, note, machine)
    idle = [dict(result, watched=result["idle"] + result["connections"]) for result in results
            if result.get("label") == "idle" and result["connections"] == 1]
    lines = lines_of(idle, "watched", lambda server: server["cpu_ns"] if server["cpu_ns"][0] > 0 else None,
                     lambda _, name: name.split()[-1] in COLOURS)
    if lines:
        yield "idle", lines_picture("One busy connection among idle ones", "connections open",
                                    "processor time a message, ns", lines, note, machine)
    panels = []
    for connections in (50, 1000):
        for result in plain:
            if result["label"] == "epoll" and result["connections"] == connections:
                panels.append((f"{connections} connections", False, 1, lambda value: f"{value:.2f}",
                               {named(server["name"]): server["ratio"] for server in result["servers"][1:]
                                if "busy" not in server["name"]}))
    if panels:
        yield "ratios", dots_picture("Echo of 64 bytes: messages a second, as a ratio to a loop written by hand", panels,
                                     "Bars: 95 % interval of the ratio within a round. \"bare again\" is the same loop a second "
                                     "time: the noise.", machine)


def named(server):
    """A server's name as people write it."""
    return {"bare epoll": "bare epoll loop", "bare epoll again": "bare again", "reactor epoll": "reactor",
            "reactor io_uring": "reactor, io_uring", "reactor coroutines": "reactor, coroutines", "asio": "Asio",
            "asio_coroutine": "Asio, coroutines",
            "bufferevent": "bufferevent"}.get(server, server)


def libraries_picture(costs, machine):
    """What noise cannot touch, of everything that runs on epoll or io_uring, the least first."""
    chosen = [cost for cost in costs if cost["name"].split()[-1] not in ("poll", "select")]
    chosen.sort(key=lambda cost: cost["instructions"][0])
    panels = [(words, log, None, written, {named(cost["name"]): cost[what] for cost in chosen})
              for words, log, written, what in (
                  ("instructions a message", True, lambda value: f"{value:,.0f}", "instructions"),
                  ("system calls a message", False, lambda value: f"{value:.2f}", "system_calls"),
                  ("bytes an idle connection", True, lambda value: f"{value:,.0f}", "idle_bytes"))]
    return dots_picture("An echo of 64 bytes, and a connection that waits", panels,
                        "In the process, 50 connections. Bars: the range of repeated measurements, mostly narrower than the dot.",
                        machine)


def dispatch_picture(path, machine):
    lines = {}
    for name, rates in repeated(path).items():
        found = re.match(r"dispatch/([^/]*)/watched:(\d+)/active:1/", name + "/")
        if found and found[1].split()[-1] in COLOURS:
            lines.setdefault(found[1], []).append((int(found[2]), median_of([1e9 / rate for rate in rates])))
    return lines_picture("One active descriptor among those watched", "descriptors watched", "ns an event", lines,
                         "Bars: the range of repeated runs. Dashed: a loop written by hand.", machine)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    path, dispatch, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    machine = next((record["text"] for record in records(path) if record.get("label") == "machine"), "")
    pictures = dict(echo_pictures(read(path), machine))
    costs = [record for record in records(path) if record.get("label") == "costs"]
    if costs:
        pictures["libraries"] = libraries_picture(costs, machine)
    if os.path.exists(dispatch):
        pictures["dispatch"] = dispatch_picture(dispatch, machine)
    for name, drawn in pictures.items():
        with open(os.path.join(folder, name + ".svg"), "w", encoding="utf-8") as file:
            file.write(drawn)


if __name__ == "__main__":
    main()
