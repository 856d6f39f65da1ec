#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures allocators beside each other: workloads of bench/suite and real programs, every run a process of its
own, allocators interleaved and their order rotated from round to round. bench/README.md says what the rows are
and how to read the table.

    run.py                              hakmem, glibc, jemalloc, mimalloc and tcmalloc, as far as installed
    run.py --only larson,mid-2 --rounds 10
    run.py --ab OLD.so NEW.so           two builds of one library
    run.py hakmem hakmem-minimal other=/path/to/other.so,SOME_VARIABLE=1
    run.py --cost                       what the promises cost

The first allocator is "ours": ratios are its own over the best of the others."""

import argparse
import fnmatch
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import allocators
import cost
import measure
import plot
import programs
import report
import scale

HERE = Path(__file__).resolve().parent
SOURCE = Path(os.environ.get("HK_SRCDIR", HERE.parents[1]))
BUILD = Path(os.environ.get("HK_BUILDDIR", HERE.parents[1] / "build"))
WARM_BYTES = 800 << 20

QUICK = ("json-64K", "json-64K-live100", "mir-256K", "vm-2M", "vm-2M-live10", "mixed", "cold-churn", "tiny-hot",
         "tiny-lifo", "tiny-fifo", "one-1K-live100", "calloc-small", "random-1", "random-2", "mid-1",
         "mid-2", "mid-4", "large-64K-1M", "megabytes", "live-1M", "pareto", "fragmentation", "burst", "hello",
         "realloc-double", "realloc-64", "realloc-many", "larson-burst-2", "larson-loop-2", "handoff-64",
         "producer-2", "migration-8", "crossing-2", "thread-churn", "startup-true")
LATENCY = ("tiny-hot", "random-1", "random-2", "mid-1", "large-64K-1M", "live-1M", "pareto",
           "realloc-many", "larson-burst-2", "crossing-2")
SERIES = ("breathing", "burst", "fragmentation")
PROFILES = {
    "quick": dict(rounds=3, scale=300, programs=False, latency=False, curves=False, syscalls=False),
    "standard": dict(rounds=5, scale=1000, programs=True, latency=True, curves=False,
                     syscalls=False),
    "full": dict(rounds=12, scale=1000, programs=True, latency=True, curves=True, syscalls=True),
}


def options(argv):
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("allocators", nargs="*", metavar="ALLOCATOR",
                   help="hakmem, hakmem-MODE, hakmem-baseline, glibc, jemalloc, mimalloc, tcmalloc, or "
                        "NAME=LIBRARY[,VARIABLE=VALUE]...")
    p.add_argument("--profile", choices=PROFILES, default="standard")
    p.add_argument("--rounds", type=positive, help="quick 3, standard 5, full 12")
    p.add_argument("--runs", type=positive, default=1, help="runs of a row per allocator in a round")
    p.add_argument("--warmup", type=int, default=0,
                   help="runs of a row per allocator that are thrown away, before the first round")
    p.add_argument("--output", type=Path, metavar="DIR", help="write table, CSV, JSON and plots there")
    p.add_argument("--only", default="", metavar="LIST",
                   help="rows or families, separated by commas; * and ? match")
    p.add_argument("--skip", default="", metavar="LIST", help="the same, to leave out")
    p.add_argument("--list", action="store_true", help="name the rows and leave")
    p.add_argument("--seed", type=positive, default=1, help="of sizes, order and lifetimes")
    p.add_argument("--scale", type=positive, help="steps of a row, in thousandths of the usual")
    p.add_argument("--timeout", type=positive, default=60, help="seconds for a run")
    p.add_argument("--heap", type=positive, default=2048, metavar="MIB",
                   help="largest live heap of the curves, at most 8192")
    for name, what in (("programs", "real programs"), ("latency", "percentiles of single operations"),
                       ("curves", "cost against threads, heap, threads made, sizes, call sites"),
                       ("syscalls", "system calls of each row, by strace")):
        p.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=what)
    p.add_argument("--no-warm", action="store_true", help="do not touch memory before the start")
    p.add_argument("--ab", nargs=2, metavar=("OLD", "NEW"), help="compare two builds")
    p.add_argument("--cost", action="store_true", help="the price of the promises")
    p.add_argument("--suite", type=Path, default=BUILD / "bench/suite/suite",
                   help=argparse.SUPPRESS)
    o = p.parse_args(argv)
    for key, value in PROFILES[o.profile].items():
        if getattr(o, key) is None:
            setattr(o, key, value)
    return o


def positive(text):
    n = int(text)
    if n < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return n


def say(text=""):
    print(text, flush=True)


def choose_allocators(o, work):
    if o.ab:
        # The new one is ours: below 1 is better than before.
        return [allocators.resolve(f"new={o.ab[1]}", BUILD), allocators.resolve(f"old={o.ab[0]}", BUILD)]
    if o.cost:
        return cost.variants(allocators.resolve("hakmem", BUILD), SOURCE, work, os.environ.get("CC"))
    found = []
    for spec in o.allocators or allocators.DEFAULT:
        try:
            a = allocators.resolve(spec, BUILD)
            allocators.check_loads(a)
            found.append(a)
        except allocators.Unusable as error:
            if o.allocators or spec == "hakmem":
                raise
            say(f"skipped: {error}")
    if len({a.name for a in found}) != len(found):
        raise allocators.Unusable("two allocators of one name")
    return found


def wanted(row, patterns):
    return any(fnmatch.fnmatch(row.name, p) or row.family == p for p in patterns)


def words(text):
    return [w for w in text.split(",") if w]


def choose_rows(o, work):
    """The rows of this run; the scale family is for the curves alone."""
    rows = [r for r in measure.workloads(o.suite, o.seed, o.scale) if r.family != "scale"]
    rows += programs.programs(str(o.suite), o.seed, o.scale, work)
    if o.curves or "scale" in words(o.only):
        rows += scale.rows(o.seed, o.scale, scale.heap_limit(o.heap))
    if o.only:
        rows = [r for r in rows if wanted(r, words(o.only))]
        unknown = [p for p in words(o.only) if not any(wanted(r, [p]) for r in rows)]
        if unknown:
            raise allocators.Unusable(f"no such row or family: {', '.join(unknown)}")
    elif o.cost:
        rows = [r for r in rows if r.name in cost.ROWS]
    elif o.profile == "quick":
        rows = [r for r in rows if r.name in QUICK or (o.programs and r.family == "program")
                or r.family == "scale"]
    elif not o.programs:
        rows = [r for r in rows if r.family != "program"]
    rows = [r for r in rows if not wanted(r, words(o.skip))]
    if o.list:
        return rows
    present = []
    for row in rows:
        if row.missing():
            say(f"skipped: {row.name}: {row.missing()}")
        else:
            present.append(row)
    return present


class Progress:
    """A line on a terminal, with the time that is left; nothing elsewhere."""

    def __init__(self, total):
        self.total, self.done, self.start = total, 0, time.monotonic()
        self.shown = sys.stderr.isatty()

    def step(self, what):
        if self.shown:
            passed = time.monotonic() - self.start
            left = passed / self.done * (self.total - self.done) if self.done else 0
            print(f"\r\033[K{self.done}/{self.total}  {what}  {int(passed)} s, about {int(left)} s left",
                  end="", file=sys.stderr, flush=True)
        self.done += 1

    def end(self):
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def checked(sample, row, digests):
    """The output of a program has to be the same under every allocator; the reference is glibc's, which ran
    first."""
    if "digest" in sample and sample["outcome"] == "ok":
        if digests.setdefault(row.name, sample["digest"]) != sample["digest"]:
            sample["outcome"] = "output differs"
    return sample


def note_references(rows, launcher, digests):
    """Real programs once under glibc, also when it is not among the allocators."""
    libc = allocators.resolve("glibc", BUILD)
    for row in rows:
        if row.family == "program":
            sample = row.run(launcher, libc)
            if sample["outcome"] == "ok":
                digests[row.name] = sample["digest"]


def interleave(o, results, launcher, progress, digests):
    """Rounds outside, rows within, allocators innermost and rotated; the first rounds are warm-up."""
    for number in range(-o.warmup, o.rounds):
        for i, row in enumerate(results.rows):
            for k in range(len(results.allocators)):
                a = results.allocators[(number + i + k) % len(results.allocators)]
                for _ in range(o.runs if number >= 0 else 1):
                    progress.step(f"round {number + 1}/{o.rounds}  {row.name}  {a.name}")
                    sample = checked(row.run(launcher, a, series=series_path(o, row, a, number)),
                                     row, digests)
                    if number >= 0:
                        results.add(row, a, number, sample)


def series_path(o, row, allocator, number):
    if o.output and row.name in SERIES and number == 0:
        return o.output / f"rss-{row.name}-{allocator.name}.txt"
    return None


def latency_pass(o, chosen, work):
    """Another program, so that the clock reads do not disturb what was timed above."""
    suite = o.suite.with_name(o.suite.name + "-latency")
    rows = [r for r in measure.workloads(suite, o.seed, o.scale) if r.name in LATENCY]
    if o.only:
        rows = [r for r in rows if wanted(r, words(o.only))]
    results = report.Results(rows, chosen)
    launcher = measure.Launcher(suite, work, o.timeout)
    progress = Progress(len(rows) * len(chosen))
    for row in rows:
        for a in chosen:
            progress.step(f"latency  {row.name}  {a.name}")
            results.add(row, a, 0, row.run(launcher, a))
    progress.end()
    return results


def syscall_table(o, results, work):
    strace = programs.tool("strace")
    if not strace:
        return ["system calls: skipped, strace is not installed"]
    lines = ["system calls of a run (mmap munmap madvise mremap brk futex / all), a hundredth of the steps",
             f"{'':20}" + "".join(f"{a.name:>30}" for a in results.allocators)]
    names = ("mmap", "munmap", "madvise", "mremap", "brk", "futex")
    for row in results.rows:
        if row.family in ("program", "scale", "start"):
            continue
        small = measure.WorkloadRow(row.workload, row.family, row.what, o.seed,
                                    max(1, o.scale // 100))
        line = f"{row.name:20}"
        for a in results.allocators:
            calls = measure.count_syscalls(strace, o.suite, small, a, work)
            line += f"{'failed':>30}" if calls is None else \
                f"{' '.join(str(calls.get(n, 0)) for n in names) + ' / ' + str(sum(calls.values())):>30}"
        lines.append(line)
    return lines


def read_series(path):
    points = []
    for line in path.read_text().splitlines():
        seconds, kib = line.split()
        points.append((float(seconds), float(kib) / 1024))
    return points


def draw(o, results):
    names = [a.name for a in results.allocators]
    for key, file, title in (("wall", "time", "Time"), ("peak_kib", "rss", "Peak resident size")):
        rows = []
        for row in results.rows:
            values = {n: results.median(row, n, key) for n in names}
            others = [v for n, v in values.items() if n != names[0] and v]
            if row.family != "scale" and others and (row.timed or key != "wall"):
                rows.append((row.name, {n: v / min(others) for n, v in values.items() if v}))
        if rows:
            plot.ratios(o.output / f"{file}.svg", f"{title}: {names[0]} (bars) and the others (marks)",
                        rows, names)
    for name in SERIES:
        lines = {n: read_series(o.output / f"rss-{name}-{n}.txt") for n in names
                 if (o.output / f"rss-{name}-{n}.txt").exists()}
        if any(lines.values()):
            plot.curves(o.output / f"rss-{name}.svg", f"Resident size over time: {name}", "seconds",
                        "MiB", lines)
    if any(row.family == "scale" for row in results.rows):
        scale.plots(results, o.output)


def machine():
    model = "unknown processor"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    libc = " ".join(platform.libc_ver())
    return f"{os.cpu_count()} x {model}, {platform.system()} {platform.release().split('-')[0]}, {libc}"


def describe(o, chosen):
    lines = [f"machine: {machine()}, load {os.getloadavg()[0]:.1f} at the start",
             f"{o.rounds} rounds x {o.runs} runs, seed {o.seed}, scale {o.scale}"]
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        lines.append("NOTE: other work is going on; ratios are more trustworthy than times, and neither much")
    return lines + [f"  {a.name:16} {Path(a.library).name if a.library else 'the program`s own libc'}"
                    + "".join(f" {k}={v}" for k, v in a.env.items()) for a in chosen]


def write_files(o, results, ratios, lines, latency):
    o.output.mkdir(parents=True, exist_ok=True)
    (o.output / "table.txt").write_text("\n".join(lines) + "\n")
    report.write_csv(results, o.output / "samples.csv")
    document = {"version": 1, "machine": machine(), "seed": o.seed, "scale": o.scale,
                "rounds": o.rounds, **report.as_json(results, ratios)}
    if latency:
        document["latency"] = report.as_json(latency, {})["rows"]
    report.write_json(document, o.output / "results.json")
    draw(o, results)


def completed(results):
    """Without the rows that an interrupted run never reached under some allocator."""
    rows = [r for r in results.rows if all(results.samples[r.name].values())]
    kept = report.Results(rows, results.allocators)
    kept.samples = results.samples
    return kept


def few_rounds(results, interrupted):
    """What a reader has to know of the intervals; a run that was cut short says so."""
    fewest = min((len({s["round"] for s in samples}) for row in results.rows
                  for samples in results.samples[row.name].values()), default=0)
    notes = ["INTERRUPTED: rows have fewer rounds than asked for"] if interrupted else []
    if fewest < 5:
        notes.append(f"NOTE: rows with as few as {fewest} rounds: intervals mean little, those of one "
                     "round nothing")
    return notes


def tell(o, results, chosen, work, interrupted):
    """Everything that is printed, and the files."""
    results = completed(results)
    curves = [r for r in results.rows if r.family == "scale"]
    ranked = report.Results([r for r in results.rows if r.family != "scale"], chosen)
    ranked.samples = results.samples
    ratios = {r.name: report.ratio(results, r) for r in results.rows if r.timed}
    lines = describe(o, chosen) + few_rounds(results, interrupted) + [""] + report.table(results, ratios) + report.legend(results)
    for part in (report.failures(results), report.extras(ranked), report.ranking(ranked),
                 report.summary(ranked, ratios, not (o.ab or o.cost))):
        lines += [""] + part if part else []
    latency = None
    if o.cost:
        lines += [""] + cost.instructions(o.suite, chosen, work)
    elif not interrupted:
        if o.latency and not o.ab:
            latency = latency_pass(o, chosen, work)
            if latency.rows:
                lines += [""] + report.failures(latency) + report.latency(latency)
        if o.syscalls:
            lines += [""] + syscall_table(o, ranked, work)
    say("\n".join(lines))
    if o.output:
        write_files(o, results, ratios, lines, latency)
        say(f"\nwritten to {o.output}: table.txt, samples.csv, results.json, *.svg"
            + (f" ({len(curves)} points of curves)" if curves else ""))
    return 1 if report.failures(results) else 0


def interrupt(number, frame):
    raise KeyboardInterrupt


def main(argv):
    # Also where SIGINT is ignored, as in the background of a script: what was measured is still told.
    signal.signal(signal.SIGTERM, interrupt)
    o = options(argv)
    if not o.suite.exists():
        raise allocators.Unusable(f"no {o.suite}; `make bench-programs` builds it")
    with tempfile.TemporaryDirectory(prefix="hakmem-bench.") as directory:
        work = Path(directory)
        rows = choose_rows(o, work)
        if o.list:
            for row in rows:
                say(f"{row.name:20} {row.family:9} {row.what}")
            return 0
        chosen = choose_allocators(o, work)
        for a in chosen if o.ab or o.cost else ():
            allocators.check_loads(a)
        if not rows or len(chosen) < 2:
            raise allocators.Unusable("nothing to compare: it takes a row and two allocators")
        if o.output:
            o.output.mkdir(parents=True, exist_ok=True)
        if not o.no_warm:
            subprocess.run([o.suite, "warm", str(WARM_BYTES)], check=False,
                           env=measure.clean_environment())
        launcher = measure.Launcher(o.suite, work, o.timeout)
        results, digests = report.Results(rows, chosen), {}
        progress = Progress(len(rows) * len(chosen) * (o.warmup + o.rounds * o.runs))
        interrupted = False
        try:
            note_references(rows, launcher, digests)
            interleave(o, results, launcher, progress, digests)
        except KeyboardInterrupt:
            interrupted = True
            say("interrupted: what was measured so far")
        progress.end()
        return tell(o, results, chosen, work, interrupted)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except allocators.Unusable as error:
        sys.exit(f"run.py: {error}")
