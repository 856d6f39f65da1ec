# SPDX-License-Identifier: MIT
"""Plots as SVG, without any library: ratios per row, curves, and resident size over time."""

import math
from html import escape

# Colours that stay apart for the colour-blind (Okabe and Ito).
COLOURS = ("#0072b2", "#888888", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKS = ("circle", "square", "triangle", "diamond", "circle", "square", "triangle", "diamond")
FONT = 'font-family="sans-serif" font-size="11"'


class Svg:
    def __init__(self, width, height, title):
        self.width, self.height = width, height
        self.parts = [f'<rect width="{width}" height="{height}" fill="white"/>']
        self.text(width / 2, 18, title, anchor="middle", size=14)

    def line(self, x1, y1, x2, y2, colour="#ddd", width=1):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                          f'stroke="{colour}" stroke-width="{width}"/>')

    def text(self, x, y, text, anchor="start", size=11, colour="#222"):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" '
                          f'font-size="{size}">{escape(str(text))}</text>')

    def bar(self, x, y, width, height, colour, title=""):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" '
                          f'height="{height:.1f}" fill="{colour}" stroke="none"><title>{escape(title)}</title></rect>')

    def path(self, points, colour):
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{text}" fill="none" stroke="{colour}" '
                          'stroke-width="1.8" stroke-linejoin="round"/>')

    def mark(self, kind, x, y, colour, title="", r=4):
        shapes = {
            "circle": f'<path d="M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"',
            "square": f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"',
            "triangle": f'<path d="M{x:.1f} {y - r:.1f}l{r} {2 * r}h{-2 * r}z"',
            "diamond": f'<path d="M{x:.1f} {y - r - 1:.1f}l{r} {r + 1}l{-r} {r + 1}l{-r} {-r - 1}z"',
        }
        self.parts.append(f'{shapes[kind]} fill="{colour}" stroke="none">'
                          f'<title>{escape(title)}</title></{shapes[kind][1:].split()[0]}>')

    def legend(self, names, x, y):
        for i, name in enumerate(names):
            self.mark(mark(i), x, y - 4, colour(i))
            self.text(x + 9, y, name)
            x += 28 + 7 * len(name)

    def write(self, path):
        with open(path, "w") as f:
            f.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                    f'width="{self.width}" height="{self.height}" {FONT}>\n'
                    + "\n".join(self.parts) + "\n</svg>\n")


def colour(i):
    return COLOURS[i % len(COLOURS)]


def mark(i):
    return MARKS[i % len(MARKS)]


def nice_ratios(low, high):
    steps = (0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 5, 10, 30, 100, 300, 1000, 3000, 10000)
    return [s for s in steps if low <= s <= high]


def ratios(path, title, rows, names):
    """rows: (name, {allocator: ratio to the best other, or None}). The first allocator as a bar from 1, the
    others as marks; what lies beyond the edge is drawn at the edge, with its number as a tooltip."""
    left, right, top, step = 150, 40, 60, 16
    limit = 8.0
    svg = Svg(860, top + step * len(rows) + 40, title)
    span = svg.width - left - right
    low = 0.5

    def x_of(ratio):
        clipped = min(max(ratio, low), limit)
        return left + span * math.log(clipped / low) / math.log(limit / low)

    svg.legend(names, left, 42)
    for tick in nice_ratios(low, limit):
        svg.line(x_of(tick), top - 6, x_of(tick), svg.height - 34, "#555" if tick == 1 else "#e4e4e4")
        svg.text(x_of(tick), svg.height - 20, f"{tick:g}", "middle")
    svg.text(left + span / 2, svg.height - 6, "ratio to the best of the others in the row; left is better",
             "middle")
    for i, (name, values) in enumerate(rows):
        y = top + step * i + 6
        svg.text(left - 8, y + 4, name, "end")
        for k in range(len(names) - 1, -1, -1):
            value = values.get(names[k])
            if value is None:
                continue
            tip = f"{names[k]}, {name}: {value:.2f}"
            if k == 0:
                svg.bar(min(x_of(1), x_of(value)), y - 4, abs(x_of(value) - x_of(1)), 9,
                        colour(0), tip)
            else:
                svg.mark(mark(k), x_of(value), y, colour(k), tip, 3)
            if value > limit and k == 0:
                svg.text(x_of(value) + 4, y + 4, f"{value:.0f}", colour=colour(0))
    svg.write(path)


def ticks(high):
    """Four to eight round numbers from 0 up."""
    step = 10 ** math.floor(math.log10(max(high, 1e-9)))
    while high / step < 4:
        step /= 2
    return [i * step for i in range(int(high / step) + 1)]


def short(number):
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


def curves(path, title, x_label, y_label, series, log_x=False):
    """series: {allocator: [(x, y)]}. The y axis begins at 0."""
    left, right, top, bottom, width, height = 70, 20, 60, 50, 700, 400
    points = [p for line in series.values() for p in line]
    if not points:
        return
    svg = Svg(width, height, title)
    # One series off the scale (a lock, say) must not flatten all others.
    best = sorted(max(y for _, y in line) for line in series.values() if line)
    high = min(best[-1], 6 * best[len(best) // 2]) * 1.05 or 1
    scale = (lambda x: math.log2(x)) if log_x else (lambda x: x)
    x_low, x_high = scale(min(x for x, _ in points)), scale(max(x for x, _ in points))

    def place(x, y):
        return (left + (width - left - right) * (scale(x) - x_low) / ((x_high - x_low) or 1),
                height - bottom - (height - top - bottom) * min(y, high) / high)

    for tick in ticks(high):
        y = place(points[0][0], tick)[1]
        svg.line(left, y, width - right, y)
        svg.text(left - 6, y + 4, f"{tick:g}", "end")
    labels = sorted({x for x, _ in points}) if log_x else \
        [t for t in ticks(x_high) if t >= x_low]
    for x in labels:
        svg.text(place(x, 0)[0], height - bottom + 16, short(x), "middle")
    svg.text(width / 2, height - 12, x_label, "middle")
    svg.text(8, top - 12, y_label)
    svg.legend(list(series), left, 40)
    for i, line in enumerate(series.values()):
        svg.path([place(x, y) for x, y in line], colour(i))
        for x, y in line if log_x else ():
            svg.mark(mark(i), *place(x, y), colour(i), f"{short(x)}: {y:.4g}", 3)
    svg.write(path)
