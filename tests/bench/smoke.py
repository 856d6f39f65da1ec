#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The bench suite: every workload runs and does the same operations under any allocator, the runner reports
what crashes, hangs or loads nothing, its files agree with each other, and its statistics with numbers worked
out by hand. Takes seconds; measures nothing."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lint"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/suite"))
from lint import BUILD, LIB, SRC, Tap, scratch, tool  # noqa: E402
import report  # noqa: E402
import run as runner  # noqa: E402
import scale  # noqa: E402

SUITE = BUILD / "bench/suite/suite"
FAMILIES = {"single", "churn", "memory", "realloc", "larson", "threads", "start", "scale"}
ENV = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}


def suite(*argv, program=SUITE, preload=None):
    env = {**ENV, **({"LD_PRELOAD": str(preload)} if preload else {})}
    return subprocess.run([str(program), *map(str, argv)], env=env, capture_output=True, text=True,
                          timeout=60)


def values(text):
    return {k: int(v) for k, v in (line.split() for line in text.splitlines())}


def workloads(tap):
    listed = [line.split("\t") for line in suite("list").stdout.splitlines()]
    names = [w[0] for w in listed]
    tap.ok({w[1] for w in listed} == FAMILIES, "all families are listed", [str(listed)])
    tap.ok(len(set(names)) == len(names) > 60, "rows have names of their own", names)
    wrong = []
    for name in names:
        done = [suite(name, "--scale", 1, "--seed", 7, preload=p) for p in (None, LIB)]
        if any(d.returncode for d in done):
            wrong.append(f"{name}: status {[d.returncode for d in done]} {done[1].stderr}")
            continue
        plain, ours = (values(d.stdout) for d in done)
        if plain["ops"] != ours["ops"] or plain["ops"] < 1:
            wrong.append(f"{name}: {plain['ops']} operations under libc, {ours['ops']} under ours")
        if min(ours[k] for k in ("wall_ns", "peak_kib", "soft_faults")) < 1:
            wrong.append(f"{name}: {done[1].stdout}")
    tap.ok(not wrong, "every workload runs, and its work is the same under both allocators", wrong)
    more = [values(suite("random-1", "--scale", s).stdout)["ops"] for s in (1, 3)]
    tap.ok(more[1] == 3 * more[0], "--scale scales the operations", [str(more)])
    tap.ok(suite("nothing-like-it").returncode == 1, "an unknown workload is refused")
    tap.ok(suite("random-1", "--scale", "x").returncode == 1, "a bad number is refused")


def latency(tap):
    done = suite("random-1", "--scale", 20, program=f"{SUITE}-latency", preload=LIB)
    found = values(done.stdout) if done.returncode == 0 else {}
    order = [found.get(f"malloc_{p}", -1) for p in ("p50", "p95", "p99", "p99.9")]
    tap.ok(order == sorted(order) and order[0] >= 0 and 0 < order[3] < 10**9,
           "percentiles of malloc rise", [done.stdout])
    tap.ok("malloc_p50" not in suite("random-1", "--scale", 1).stdout,
           "the timing program reads no clock per operation")


def larson(tap):
    twice = [suite("larson", "-p", "repro", "-c", 50, "-r", 2).stdout for _ in range(2)]
    ops = [[line for line in t.splitlines() if line.startswith("ops ")] for t in twice]
    tap.ok(ops[0] == ops[1] == ["ops 10000"], "larson repro: 100 lives of 50 x 2", twice)
    timed = suite("larson", "-p", "guard", "-t", 1, "-d", 1, "-m", 16, "-M", 64, "-s", 3).stdout
    tap.ok("threads 1" in timed and "ops_per_s" in timed, "larson runs for a time", [timed])
    bad = [suite("larson", *o).returncode for o in (["-p", "fast"], ["-t", "0"], ["-m", 9, "-M", 8])]
    tap.ok(bad == [1, 1, 1], "larson refuses bad options", [str(bad)])


def launched(directory, *argv):
    path = Path(directory) / "launch"
    suite("launch", *argv[:argv.index("--")], path, *argv[argv.index("--") + 1:])
    return values(path.read_text())


def launcher(tap):
    with scratch() as directory:
        hung = launched(directory, "-t", "1", "--", "sleep", "30")
        tap.ok(hung["timeout"] == 1 and 0.9e9 < hung["wall_ns"] < 20e9, "a hang ends in time",
               [str(hung)])
        status = launched(directory, "-e", "HK_SMOKE=3", "--", "sh", "-c", "exit $HK_SMOKE")
        tap.ok(status["exit"] == 3 and not status["timeout"], "status and environment", [str(status)])
        killed = launched(directory, "--", "sh", "-c", "kill -9 $$")
        tap.ok(killed["signal"] == 9, "a signal is told", [str(killed)])
        series = Path(directory) / "series"
        big = launched(directory, "-i", "5", "-s", str(series), "--", str(SUITE), "burst", "--scale", "300")
        text = series.read_text().splitlines()
        tap.ok(big["peak_kib"] > 40000 and 0 < big["mean_kib"] <= big["peak_kib"]
               and len(text) == big["samples"] > 50, "peak, mean and series of the resident size",
               [str(big), *text[:3]])
        small = launched(directory, "--", "true")
        tap.ok(small["peak_kib"] < 8192, "the peak is not inherited from a big parent", [str(small)])


def measured(directory, *argv):
    return subprocess.run([sys.executable, str(SRC / "bench/suite/run.py"), "--no-warm", *map(str, argv)],
                          env={**ENV, "HK_BUILDDIR": str(BUILD), "HK_SRCDIR": str(SRC)},
                          capture_output=True, text=True, timeout=300, cwd=directory)


def build_broken(directory):
    library = Path(directory) / "libbroken.so"
    subprocess.run([*tool("CC", "cc"), "-shared", "-fPIC", "-fno-builtin", "-o", str(library),
                    str(SRC / "tests/bench/broken.c")], check=True)
    return library


def broken(tap, directory):
    """One row that the broken allocators do not survive, one that they do."""
    library, out = build_broken(directory), Path(directory) / "out"
    hows = ("crash", "hang", "exit")
    done = measured(directory, "--rounds", 2, "--scale", 1, "--timeout", 3, "--no-programs", "--no-latency",
                    "--only", "tiny-lifo,mid-1,burst", "--output", out, "hakmem", "glibc",
                    *(f"{how}={library},BROKEN={how}" for how in hows))
    text = done.stdout
    tap.ok(done.returncode == 1, "a failed row makes the runner fail", [text, done.stderr])
    for how, what in zip(hows, ("signal 6", "hang", "status 7")):
        tap.ok(f"FAILED: tiny-lifo under {how}: {what}" in text
               and f"mid-1 under {how}" not in text, f"reported: {how}", [text, done.stderr])
    return out


def files(tap, out):
    rows = list(csv.DictReader((out / "samples.csv").open()))
    tap.ok(len(rows) == 3 * 5 * 2, "CSV: rows x allocators x rounds, the failed ones too",
           [str(len(rows))])
    document = json.loads((out / "results.json").read_text())
    names = [a["name"] for a in document["allocators"]]
    tap.ok(names == ["hakmem", "glibc", "crash", "hang", "exit"], "JSON: allocators in order", names)
    wrong = []
    for row in document["rows"]:
        for name, median in row["median"].items():
            mine = [r for r in rows if r["row"] == row["name"] and r["allocator"] == name]
            walls = [float(r["wall"]) for r in mine if r["outcome"] == "ok"]
            good = median["wall"] is None if len(walls) < 2 else \
                math.isclose(median["wall"], sum(walls) / 2, rel_tol=1e-9)
            if not good or (len(walls) == 2) != (row["name"] != "tiny-lifo" or name in names[:2]):
                wrong.append(f"{row['name']} {name}: {median} {walls}")
    tap.ok(not wrong and len(document["rows"]) == 3, "JSON: medians of what the CSV says", wrong)
    low = all(r["ratio"]["low"] <= r["ratio"]["value"] <= r["ratio"]["high"]
              for r in document["rows"])
    tap.ok(low, "intervals hold their ratios")
    plots = sorted(p.name for p in out.glob("*.svg"))
    trees = [ElementTree.parse(p) for p in out.glob("*.svg")]
    tap.ok(plots == ["rss-burst.svg", "rss.svg", "time.svg"] and all(
        len(t.getroot()) > 8 for t in trees), "plots are SVG with something in it", plots)


def refusals(tap, directory):
    nothing = Path(directory) / "nothing.so"
    nothing.write_text("not a library")
    for argv, what in ((["hakmem", f"x={nothing}"], "does not load"), (["--only", "nope"], "no such row"),
                       (["hakmem", "jemallocc"], "not installed"), (["hakmem-swift", "glibc"], "modes are")):
        done = measured(directory, *argv)
        tap.ok(done.returncode == 1 and what in done.stderr, f"refused: {what}", [done.stderr])


def modes(tap, directory):
    library = os.path.realpath(LIB)
    listed = measured(directory, "--profile", "quick", "--list").stdout
    tap.ok("json-64K" in listed and "startup-true" in listed and "cc1" not in listed,
           "--list names the rows of a profile", [listed])
    done = measured(directory, "--rounds", 1, "--scale", 1, "--only", "pair-16,scale", "--heap", 1,
                    "--no-latency", "--runs", 2, "--warmup", 1, "hakmem-baseline", "hakmem-fast")
    tap.ok(done.returncode == 0 and "HAKMEM_MMAP_THRESHOLD=256K" in done.stdout
           and "made-10000" in done.stdout, "modes of ours, and the points of the curves",
           [done.stdout, done.stderr])
    done = measured(directory, "--ab", library, library, "--rounds", 1, "--scale", 1, "--only", "pair-16")
    tap.ok(done.returncode == 0 and "new/best other" in done.stdout, "two builds side by side",
           [done.stdout, done.stderr])


def statistic(tap):
    """Numbers worked out by hand."""
    rows = [SimpleNamespace(name=n, family="f", timed=True, what="") for n in ("a", "b")]
    three = [SimpleNamespace(name=n, ours=n == "hakmem") for n in ("hakmem", "x", "y")]
    results = report.Results(rows, three)
    walls = {"a": {"hakmem": (1, 2, 3), "x": (4, 4, 40), "y": (5, 5, 5)},
             "b": {"hakmem": (3, 3, 3), "x": (2, 2, 2), "y": (9, 1, 1)}}
    peaks = {"hakmem": 300, "x": 200, "y": 400}
    for row in rows:
        for a in three:
            for r, wall in enumerate(walls[row.name][a.name]):
                bad = row.name == "b" and a.name == "y" and r == 0
                results.add(row, a, r, {"outcome": "hang" if bad else "ok", "wall": wall,
                                        "peak_kib": peaks[a.name], "extra": {}})
    first, second = (report.ratio(results, r) for r in rows)
    tap.ok(first[0] == 0.5 and first[1] < 0.5 < first[2], "the ratio of medians, within its interval",
           [str(first[:3])])
    tap.ok(second[:3] == (1.5, 1.5, 1.5), "who failed once is not a peer; no noise, no width",
           [str(second[:3])])
    tap.ok(report.points(results)[0] == {"hakmem": 3 + 2, "x": 2 + 3, "y": 1}, "points",
           [str(report.points(results))])
    tap.ok(report.memory_ratio(results, rows[0]) == (1.5, 200), "memory over the smallest")
    text = "\n".join(report.summary(results, {r.name: report.ratio(results, r) for r in rows}))
    tap.ok(f"{math.sqrt(0.75):.3f}" in text and "above 1.10: 1 of 2" in text and "NOT reached" in text
           and "1 of 2, 50 %" in text, "the summary counts", [text])
    tap.ok(report.geomean([1, 4]) == 2, "geometric mean")
    reference = {}
    row = SimpleNamespace(name="p")
    same = [runner.checked({"outcome": "ok", "digest": d}, row, reference)["outcome"] for d in "112"]
    tap.ok(same == ["ok", "ok", "output differs"], "a program whose output differs has failed", same)
    tap.ok(scale.heap_limit(10**9) <= scale.MAX_HEAP_MIB, "the heap of the curves is bounded")


def main():
    tap = Tap()
    workloads(tap)
    latency(tap)
    larson(tap)
    launcher(tap)
    statistic(tap)
    with scratch() as directory:
        files(tap, broken(tap, directory))
        refusals(tap, directory)
        modes(tap, directory)
    tap.done()


main()
