#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Lines and branches that were run, box by box, from gcovr's JSON. With FILE as second argument: the lines of that file
that were not, and the branches never taken.

usage: table.py coverage.json [FILE]
"""

import json
import sys
from collections import defaultdict


def count(lines):
    """Lines, those run, branches, those taken. A line of an inline function stands once for each user of the header."""
    seen = {}
    for line in lines:
        if line.get("gcovr/noncode") or line.get("gcovr/excluded"):
            continue
        number = line["line_number"]
        hit, branches = seen.get(number, (0, []))
        taken = [b["count"] for b in line["branches"]]
        if len(taken) == len(branches):
            taken = [a + b for a, b in zip(taken, branches)]
        elif len(taken) < len(branches):
            taken = branches
        seen[number] = (hit + line["count"], taken)
    branches = [b for _, taken in seen.values() for b in taken]
    return len(seen), sum(1 for hit, _ in seen.values() if hit), len(branches), sum(1 for b in branches if b), seen


def percent(part, whole):
    return f"{100 * part / whole:.1f} %" if whole else "-"


def row(name, c):
    return f"| {name} | {c[0]} | {percent(c[1], c[0])} | {c[2]} | {percent(c[3], c[2])} |"


def main():
    files = json.load(open(sys.argv[1]))["files"]
    if len(sys.argv) > 2:
        for f in files:
            if f["file"].endswith(sys.argv[2]):
                for number, (hit, taken) in sorted(count(f["lines"])[4].items()):
                    if not hit or 0 in taken:
                        print(f"{f['file']}:{number}: run {hit} times, branches {taken}")
        return
    boxes = defaultdict(lambda: [0, 0, 0, 0])
    for f in files:
        for i, n in enumerate(count(f["lines"])[:4]):
            boxes[f["file"].split("/")[1]][i] += n
    print("| box | lines | run | branches | taken |\n|---|---|---|---|---|")
    for name in sorted(boxes):
        print(row(name, boxes[name]))
    print(row("all", [sum(b[i] for b in boxes.values()) for i in range(4)]))


main()
