#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""measure.py BUILD_DIR OUT_DIR ROUNDS REPEATS - called by run.sh.

A round is a seed. Within a round each workload runs REPEATS times under all
allocators, interleaved and in rotated order; the fastest repeat counts, since
what a shared machine adds is never negative. Ratios are paired: the median over
rounds of variant / reference within the round. Time is CPU time of the process:
other people's load moves wall time far more.
"""
import csv
import math
import os
import re
import statistics
import subprocess
import sys

BUILD, OUT = sys.argv[1], sys.argv[2]
ROUNDS, REPEATS = int(sys.argv[3]), int(sys.argv[4])
LOADER = "/lib64/ld-linux-x86-64.so.2"
PROGRAM = os.path.join(BUILD, "workloads")

WORKLOADS = [  # row, workload, operations, threads
    ("pareto", "pareto", 8_000_000, 1),
    ("cfrac", "cfrac", 8_000_000, 1),
    ("larson-1", "larson", 20_000_000, 1),
    ("larson-2", "larson", 20_000_000, 2),
    ("larson-8", "larson", 20_000_000, 8),
    ("bulk", "bulk", 4_000_000, 1),
    ("phases", "phases", 4_000_000, 1),
    ("hot", "hot", 30_000_000, 1),
    ("handoff", "handoff", 8_000_000, 1),
    ("mid", "mid", 8_000_000, 1),
    ("stride", "stride", 15_000_000, 1),
]
COUNTS = [  # column, workload, block bytes, two operation counts
    ("64 B", "pair", 64, (40_000, 120_000)),
    ("1 KiB", "pair", 1024, (40_000, 120_000)),
    ("8 KiB", "pair", 8192, (40_000, 120_000)),
    ("1000 x 64 B", "batch", 64, (200_000, 600_000)),
]
EMPTY_PAIR = 4  # instructions in the workloads' own empty pair of functions

EXPERIMENTS = [  # title, reference, others, rows (None: all)
    ("1. Magazine (base) against page-local list", "base",
     ["local", "twin", "glibc", "mimalloc"], None),
    ("2. Two-level page map (base) against flat", "base",
     ["flat", "twin"], None),
    ("2b. The same for page-local lists", "local", ["local-flat"], None),
    ("3. 16 KiB slabs (base) against 64 KiB for classes <= 256 B", "base",
     ["slab64", "twin"], None),
    ("3b. The same for page-local lists", "local", ["local-slab64"], None),
    ("4. Colouring of blocks >= 4 KiB", "base",
     ["colour1", "colour2", "twin", "glibc", "mimalloc"], ["stride", "mid", "pareto"]),
    ("5. Remote batch: 62 blocks (base) against 1 (linked), 16, 254", "base",
     ["remote1", "remote16", "remote254", "twin", "glibc", "mimalloc"],
     ["handoff", "larson-2", "larson-8"]),
    ("5b. The same, wall time", "base",
     ["remote1", "remote16", "remote254", "twin", "glibc", "mimalloc"],
     ["handoff", "larson-2", "larson-8"]),
    ("6. Checks on magazines, two-level map", "base",
     ["mark-only", "mark", "bitmap", "bytemap", "twin"], None),
    ("6b. Checks on magazines, flat map", "flat",
     ["flat-mark", "flat-bitmap", "flat-bytemap"], None),
    ("6c. Checks on page-local lists, two-level map", "local",
     ["local-mark", "local-bitmap"], None),
    ("6d. Checked magazine against checked page-local list", "mark",
     ["local-mark", "bitmap", "local-bitmap", "bytemap", "mimalloc"], None),
    ("7. Magazine slots: 1024 (base) against 256, 512, 2048", "base",
     ["slots256", "slots512", "slots2048", "twin"], None),
]


def library(name):
    """Path of an installed shared library, or None."""
    text = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    found = re.search(r"^\s*%s\s.*x86-64.*=> (\S+)" % re.escape(name), text, re.M)
    return found and found.group(1)


def allocators():
    with open(os.path.join(BUILD, "variants")) as f:
        names = [line.split()[0] for line in f if line.strip()]
    paths = {n: os.path.join(BUILD, n + ".so") for n in names}
    for name, so in (("glibc", "libc.so.6"), ("mimalloc", "libmimalloc.so.2")):
        path = library(so)
        if path:
            paths[name] = path
        else:
            print("no %s: its column is left out" % so, file=sys.stderr)
    return paths


def run(path, args, prefix=()):
    """The dynamic loader preloads: nothing but the program sees the allocator."""
    done = subprocess.run([*prefix, LOADER, "--preload", path, PROGRAM, *map(str, args)],
                          capture_output=True, text=True)
    if done.returncode or "preload" in done.stderr.replace("--preload", ""):
        sys.exit("%s %s: %d %s" % (path, args, done.returncode, done.stderr))
    return done


def measure(paths):
    rows, names = [], list(paths)
    only = os.environ.get("ONLY", "").split()
    run(paths["base"], ("warm", 800, 1))
    for r in range(ROUNDS):
        for w, (row, workload, ops, threads) in enumerate(WORKLOADS):
            if only and row not in only:
                continue
            for repeat in range(REPEATS):
                turn = (r * 7 + w * 3 + repeat * 11) % len(names)
                for name in names[turn:] + names[:turn]:
                    out = run(paths[name], (workload, r + 1, ops, threads)).stdout.split()
                    rows.append(dict(round=r + 1, repeat=repeat + 1, workload=row, allocator=name,
                                     ops=int(out[1]), wall_s=float(out[2]), cpu_s=float(out[3]),
                                     hwm_kib=int(out[4]), minor_faults=int(out[5])))
        print("round %d of %d done" % (r + 1, ROUNDS), file=sys.stderr)
    return rows


def slope(path, workload, size, ops):
    seen = []
    for n in ops:
        text = run(path, (workload, size, n),
                   ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")).stderr
        seen.append(int(re.search(r"Collected : (\d+)", text).group(1)))
    return (seen[1] - seen[0]) / ((ops[1] - ops[0]) / 2)


def count(paths):
    rows = []
    empty = {w: slope(paths["base"], w + "0", 64, (40_000, 120_000)) - EMPTY_PAIR
             for w in ("pair", "batch")}
    for name, path in paths.items():
        small = os.path.join(BUILD, name + ".count.so")
        path = small if os.path.exists(small) else path
        for column, workload, size, ops in COUNTS:
            per_pair = slope(path, workload, size, ops) - empty[workload]
            rows.append(dict(allocator=name, shape=column, instructions=round(per_pair, 1)))
    return rows


def save(name, rows):
    with open(os.path.join(OUT, name), "w", newline="") as f:
        out = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)


def load(name):
    with open(os.path.join(OUT, name), newline="") as f:
        return list(csv.DictReader(f))


def table(head, lines):
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def report(rows, counts):
    cell = {}
    for r in rows:
        cell.setdefault((r["allocator"], r["workload"], int(r["round"])), []).append(r)
    known = {r["allocator"] for r in rows}
    rounds = sorted({int(r["round"]) for r in rows})
    shapes = [c[0] for c in COUNTS]
    instructions = {(r["allocator"], r["shape"]): r["instructions"] for r in counts}

    def series(name, row, field):
        best = min if field.endswith("_s") else statistics.median
        return [best(float(c[field]) for c in cell[name, row, r]) for r in rounds]

    def ratio(name, reference, row, field):
        return statistics.median(a / b for a, b in zip(series(name, row, field),
                                                       series(reference, row, field)))

    def text(name, reference, row, field):
        time = ratio(name, reference, row, field)
        first = ("%.0f ms" % (1000 * statistics.median(series(name, row, field)))
                 if name == reference else "%.3f" % time)
        if field == "wall_s":
            return first
        return "%s / %.1f / %.0f" % (first, statistics.median(series(name, row, "hwm_kib")) / 1024,
                                     statistics.median(series(name, row, "minor_faults")))

    for title, reference, others, picked in EXPERIMENTS:
        columns = [reference] + [o for o in others if o in known]
        picked = picked or [w[0] for w in WORKLOADS]
        field = "wall_s" if "wall time" in title else "cpu_s"
        print("### %s\n" % title)
        lines = [[row] + [text(n, reference, row, field) for n in columns] for row in picked]
        lines.append(["**time, geometric mean**"] + [
            "**%.3f**" % geometric_mean([ratio(n, reference, row, field) for row in picked])
            for n in columns])
        if field == "cpu_s":
            lines.append(["RSS, geometric mean"] + [
                "%.3f" % geometric_mean([ratio(n, reference, row, "hwm_kib") for row in picked])
                for n in columns])
            lines += [["instructions, " + s] + [str(instructions.get((n, s), "")) for n in columns]
                      for s in shapes]
        table(["time / MiB / faults" if field == "cpu_s" else "wall time"] + columns, lines)


def main():
    paths = allocators()
    counted = os.path.join(OUT, "instructions.csv")
    if not (os.environ.get("SKIP_COUNT") and os.path.exists(counted)):
        save("instructions.csv", count(paths))
    if ROUNDS:
        rows = measure(paths)
        fresh = {r["workload"] for r in rows}
        if os.environ.get("ONLY"):
            rows = [r for r in load("results.csv") if r["workload"] not in fresh] + rows
        save("results.csv", rows)
    report(load("results.csv"), load("instructions.csv"))


main()
