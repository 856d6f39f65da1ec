#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""learn.py [-s SECONDS] [-r ROUNDS] [-o DIRECTORY] PROGRAM LIBRARY TABLE...

Does learning pay? PROGRAM is bench/learn/workloads, LIBRARY the built libhakmem.so. TABLE is one of

  arms       every arm of every learnt knob, fixed by its option, on every workload: what there is to gain
  dropped    the same for knobs that are not learnt: what there is not
  adaptive   per workload: the default, the best fixed arm of all knobs, and what learning reaches: once frozen
             (a second run that loads the policy file of the first) and while it still learns
  phases     workloads in turn: each knob's fixed arms, and pairs of them, against the learner (ucb1 and elo)
  flipper    the same with turns shorter than a window: an adversary
  regret     cost of the learner over time against the best fixed arm's: DIRECTORY/regret.svg

The objective of a run: CPU seconds per round, plus memory: mean resident MiB x time x 312 us per MiB and second
(a core costs as much as 3.2 GiB). Runs are interleaved, the median of ROUNDS counts. Ratios are to the best
fixed arm, or to the default where it says so."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

MEMORY = 312e-6
ARMS = {
    "PURGE_DELAY_MS": ["50", "300", "1000", "4000"],
    "PURGE_CAP_BYTES": ["16M", "32M", "64M", "128M"],
}
# The workloads that should show each.
DROPPED = {
    "MMAP_THRESHOLD": (["256K", "512K", "1M", "2M"], "buffers runs huge"),
    "WMAX_LARGE": (["1.0", "1.125", "1.25", "1.5", "2.0"], "buffers runs huge"),
    "WMAX_MID": (["1.0", "1.25", "2.0"], "mid"),
    "TINY_MAG_CAP": (["32", "128", "512", "2048"], "tiny cold larson"),
    "TINY_REFILL_COUNT_HOT": (["8", "16", "64"], "tiny handoff larson"),
    "REMOTE_BATCH_BYTES": (["4K", "16K", "64K", "256K"], "handoff"),
    "TINY_MUST_ADOPT": (["0", "1"], "handoff larson"),
    "CAP_MID": (["16", "64", "256"], "mid cold"),
    "CAP_LARGE": (["1", "4", "16"], "runs huge"),
    "BIGCACHE_AGE_MS": (["100", "1000", "10000"], "buffers huge"),
}
WORKLOADS = ["burst", "gaps", "steady", "lull", "buffers", "runs", "huge", "mid", "cold", "tiny", "handoff", "larson"]
LEARN = {"MODE": "learning", "LEARN_WINDOW_MS": "500", "LEARN_MIN_SAMPLES": "64"}


class Bench:
    def __init__(self, program, library, seconds, rounds, out):
        self.program, self.library, self.out = program, os.path.abspath(library), out
        self.seconds, self.rounds = seconds, rounds

    def run(self, settings, spans, names):
        """{name: (objective, cpu, faults, MiB) per round}, and the learner's line."""
        env = dict(os.environ, LD_PRELOAD=self.library)
        env.update({"HAKMEM_" + k: v for k, v in settings.items()})
        start = time.monotonic()
        text = subprocess.run([self.program, str(spans)] + names, env=env, capture_output=True, text=True,
                              check=True).stdout
        elapsed = time.monotonic() - start  # more than asked for: the last turn is ended
        scores = {}
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            name, rounds, cpu, faults, kib = line.split()
            share = elapsed / (len(names) if "/" in str(spans) else 1)
            memory = float(kib) / 1024 * share * MEMORY
            scores[name] = tuple(x / float(rounds) for x in (float(cpu) + memory, float(cpu), float(faults))) \
                + (float(kib) / 1024,)
        return scores, text.splitlines()[-1]

    def medians(self, settings_list, spans, names, rounds=None):
        """Interleaved; one dictionary per entry of settings_list."""
        runs = [[] for _ in settings_list]
        for _ in range(rounds or self.rounds):
            for i, settings in enumerate(settings_list):
                runs[i].append(self.run(settings, spans, names)[0])
        return [{n: tuple(statistics.median(r[n][k] for r in rr) for k in range(4)) for n in names}
                for rr in runs]


def show(label, score, best):
    print(f"  {label:28} {score[0] / best:6.3f}   cpu {score[1] * 1e3:9.3f} ms  faults {score[2]:8.1f}"
          f"  rss {score[3]:6.1f} MiB", flush=True)


def arms(b, names):
    for name in names:
        print(name)
        settings = [{k: v} for k in ARMS for v in ARMS[k]]
        scores = [s[name] for s in b.medians(settings, b.seconds, [name])]
        for knob in ARMS:
            mine = [(s, c[knob]) for s, c in zip(scores, settings) if knob in c]
            best = min(s[0] for s, _ in mine)
            spread = max(s[0] for s, _ in mine) / best
            print(f" {knob.lower()}: spread {spread:.2f}, best {min(mine, key=lambda m: m[0][0])[1]}")
            for score, value in mine:
                show(value, score, best)


def dropped(b, names):
    for knob, (values, where) in DROPPED.items():
        for name in (n for n in where.split() if n in names):
            scores = [s[name] for s in b.medians([{knob: v} for v in values], b.seconds, [name])]
            best = min(s[0] for s in scores)
            print(f"{knob.lower()} on {name}: spread {max(s[0] for s in scores) / best:.2f}")
            for score, value in zip(scores, values):
                show(value, score, best)


def best_fixed(b, name):
    """Coordinate descent over the arms, as a person would: the best arm of each knob, together."""
    settings = [{}] + [{k: v} for k in ARMS for v in ARMS[k]]
    scores = [s[name] for s in b.medians(settings, b.seconds, [name], 1)]
    chosen = {}
    for knob in ARMS:
        mine = [(s[0], c[knob]) for s, c in zip(scores, settings) if knob in c]
        low = min(mine)
        if low[0] < 0.95 * scores[0][0]:
            chosen[knob] = low[1]
    return chosen


def adaptive(b, names):
    for name in names:
        fixed = best_fixed(b, name)
        with tempfile.TemporaryDirectory() as directory:
            file = os.path.join(directory, "policy")
            lesson = b.run(dict(LEARN, POLICY_FILE=file), 12 * b.seconds, [name])
            runs = b.medians([{}, fixed, {"POLICY_FILE": file, "LEARN": "frozen"}], b.seconds, [name])
        default, best, frozen = (r[name] for r in runs)
        reference = min(default[0], best[0])
        print(name)
        show("default", default, reference)
        show("best fixed " + ",".join(fixed.values()), best, reference)
        show("learnt, then frozen", frozen, reference)
        show("while it learns", lesson[0][name], reference)
        print("   " + lesson[1], flush=True)


def in_turn(b, names, slice_seconds):
    fixed = [{}] + [{k: v} for k in ARMS for v in ARMS[k]]
    fixed += [{"PURGE_DELAY_MS": d, "PURGE_CAP_BYTES": c} for d in ("50", "1000", "4000") for c in ("16M", "128M")]
    settings = fixed + [LEARN, dict(LEARN, LEARNER="elo")]
    # What is fixed costs the same in every turn: two of them will do.
    runs = [b.run(s, f"{2 * len(names) * slice_seconds if s in fixed else 30 * b.seconds}/{slice_seconds}", names)
            for s in settings]
    default = runs[0][0]

    def total(scores):  # of each workload, relative to the default
        return statistics.mean(scores[n][0] / default[n][0] for n in names)

    best = min(total(r[0]) for r in runs[:-2])
    print(f"{' '.join(names)}, {slice_seconds} s each, mean of cost / default")
    for s, (scores, line) in zip(settings, runs):
        text = " ".join(f"{k.lower()}={v}" for k, v in s.items()) or "default"
        each = " ".join(f"{n} {scores[n][0] / default[n][0]:.2f}" for n in names)
        print(f"  {text:52} {total(scores):6.3f}  vs best static {total(scores) / best:6.3f}   {each}", flush=True)
        if s.get("MODE"):
            print("   " + line)


def svg(path, series, title):
    w, h, left, bottom = 640, 360, 60, 40
    most = max(max(y) for _, y in series) or 1
    least = min(0, min(min(y) for _, y in series))
    n = max(len(y) for _, y in series)

    def point(i, v):
        return (f"{left + i * (w - left - 20) / max(n - 1, 1):.1f},"
                f"{h - bottom - (v - least) * (h - bottom - 40) / (most - least):.1f}")

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" font-family="sans-serif" '
           f'font-size="12"><rect width="{w}" height="{h}" fill="white"/>',
           f'<text x="{left}" y="20">{title}</text>',
           f'<path d="M{left},30V{h - bottom}H{w - 20}" fill="none" stroke="black"/>',
           f'<text x="4" y="40">{most:.2f} s</text><text x="4" y="{h - bottom}">{least:.2f} s</text>',
           f'<text x="{w - 120}" y="{h - 12}">{n} slices</text>']
    for k, (name, y) in enumerate(series):
        colour = ["#c22", "#22c", "#282", "#b80"][k % 4]
        out.append(f'<polyline fill="none" stroke="{colour}" points="'
                   + " ".join(point(i, v) for i, v in enumerate(y)) + '"/>')
        out.append(f'<text x="{left + 10}" y="{50 + 16 * k}" fill="{colour}">{name}</text>')
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n</svg>\n")


def regret(b, names):
    """Slices of one long run of the learner against the same slices of the best fixed arms' run."""
    series = []
    for name in names:
        fixed = best_fixed(b, name)
        n = 20
        spans = f"{n * b.seconds / 4}"
        env = {"WORKLOADS_SLICES": str(n)}
        os.environ.update(env)
        learner, best = (b.run(s, spans, [name])[1] for s in (LEARN, fixed))
        del os.environ["WORKLOADS_SLICES"]
        learner, best = ([float(x) for x in re.findall(r"[\d.]+", t.split("slices", 1)[1])] for t in (learner, best))
        total, curve = 0.0, []
        for a, c in zip(learner, best):
            total += (a - c) * b.seconds / 4 / max(c, 1e-9)
            curve.append(total)
        series.append((name, curve))
        print(f"{name}: regret {total:.2f} s of {n * b.seconds / 4} s; last quarter "
              f"{sum(learner[-n // 4:]) / sum(best[-n // 4:]):.3f} of the best fixed arm's cost", flush=True)
    svg(os.path.join(b.out, "regret.svg"), series, "regret against the best fixed arm: seconds lost so far")


def main(argv):
    seconds, rounds, out = 2.0, 3, "."
    while argv and argv[0] in ("-s", "-r", "-o"):
        if argv[0] == "-s":
            seconds = float(argv[1])
        elif argv[0] == "-r":
            rounds = int(argv[1])
        else:
            out = argv[1]
        argv = argv[2:]
    if len(argv) < 3:
        sys.exit(__doc__)
    b = Bench(os.path.abspath(argv[0]), argv[1], seconds, rounds, out)
    only = os.environ.get("WORKLOADS", "").split() or None
    for table in argv[2:]:
        print(f"== {table}", flush=True)
        if table == "arms":
            arms(b, only or WORKLOADS)
        elif table == "dropped":
            dropped(b, only or WORKLOADS)
        elif table == "adaptive":
            adaptive(b, only or WORKLOADS)
        elif table == "phases":
            in_turn(b, only or ["gaps", "lull", "buffers"], 9)
        elif table == "flipper":
            in_turn(b, only or ["buffers", "cold"], 0.3)
        elif table == "regret":
            regret(b, only or ["buffers", "burst", "huge"])
        else:
            sys.exit(f"learn.py: no table {table}")


if __name__ == "__main__":
    main(sys.argv[1:])
