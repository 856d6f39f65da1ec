# SPDX-License-Identifier: MIT
"""From samples to tables: medians, ratios with intervals, points, and the figures to reach.

`ours` is the first allocator of a run; the peers are those of the others that are not hakmem in another mode.
A ratio of a row is ours over the best peer of that row, below 1 is better. Its 95 % interval comes from
resampling whole rounds, so that what disturbed a round disturbs both sides of the ratio, and the choice of the
best peer is part of what is resampled. Seeded: the same samples give the same interval."""

import csv
import json
import math
import random
import statistics

RESAMPLES = 1000
TIED = 1.03
WORSE = 1.10
GOAL_TIME = 0.80
SMALL_KIB = 16 * 1024
GOAL_SMALL, GOAL_LARGE, GOAL_PROGRAMS = 1.20, 1.10, 1.08


def geomean(values):
    return math.exp(statistics.fmean(math.log(max(v, 1e-9)) for v in values))


class Results:
    """Samples by row and allocator, in the order of the rounds."""

    def __init__(self, rows, allocators):
        self.rows, self.allocators = rows, allocators
        self.samples = {row.name: {a.name: [] for a in allocators} for row in rows}

    def add(self, row, allocator, round_number, sample):
        self.samples[row.name][allocator.name].append({**sample, "round": round_number})

    @property
    def ours(self):
        return self.allocators[0].name

    @property
    def peers(self):
        others = self.allocators[1:]
        return [a.name for a in others if not a.ours] or [a.name for a in others]

    def good(self, row, name):
        """The samples, or none when any run failed: a median of the survivors would hide that."""
        samples = self.samples[row.name][name]
        return samples if all(s["outcome"] == "ok" for s in samples) else []

    def trouble(self, row, name):
        return next((s["outcome"] for s in self.samples[row.name][name] if s["outcome"] != "ok"),
                    None)

    def median(self, row, name, key):
        values = [s[key] for s in self.good(row, name) if s.get(key) is not None]
        return statistics.median(values) if values else None

    def extra(self, row, name, key):
        values = [s["extra"][key] for s in self.good(row, name) if key in s["extra"]]
        return statistics.median(values) if values else None

    def by_round(self, row, name, key):
        rounds = {}
        for s in self.good(row, name):
            if s.get(key) is not None:
                rounds.setdefault(s["round"], []).append(s[key])
        return {r: statistics.median(v) for r, v in rounds.items()}


def point_ratio(values, ours, peers, rounds):
    """Median of ours over the smallest median of a peer, over some rounds."""
    best = min(statistics.median([values[p][r] for r in rounds]) for p in peers)
    return statistics.median([values[ours][r] for r in rounds]) / max(best, 1e-9)


def ratio(results, row, key="wall"):
    """(ratio, low, high, resamples) of ours over the best peer, or None."""
    values = {n: results.by_round(row, n, key) for n in [results.ours, *results.peers]}
    peers = [p for p in results.peers if values[p]]
    if not values[results.ours] or not peers:
        return None
    rounds = sorted(set.intersection(*(set(values[n]) for n in [results.ours, *peers])))
    if not rounds:
        return None
    chance = random.Random(row.name)
    draws = sorted(point_ratio(values, results.ours, peers, chance.choices(rounds, k=len(rounds)))
                   for _ in range(RESAMPLES))
    return (point_ratio(values, results.ours, peers, rounds), draws[int(RESAMPLES * 0.025)],
            draws[int(RESAMPLES * 0.975)], draws)


def geomean_interval(ratios):
    chance = random.Random(1)
    draws = sorted(geomean([chance.choice(r[3]) for r in ratios]) for _ in range(RESAMPLES))
    return geomean([r[0] for r in ratios]), draws[int(RESAMPLES * 0.025)], \
        draws[int(RESAMPLES * 0.975)]


def memory_ratio(results, row, key="peak_kib"):
    """Ours over the smallest of the row, ours included: never below 1."""
    values = {a.name: results.median(row, a.name, key) for a in results.allocators
              if a.name == results.ours or a.name in results.peers}
    known = [v for v in values.values() if v]
    if not values[results.ours] or not known:
        return None
    return values[results.ours] / min(known), min(known)


# ---- the table

def cell(results, row, name, best):
    trouble = results.trouble(row, name)
    if trouble:
        return f"{'! ' + trouble[:20]:>22}"
    wall = results.median(row, name, "wall")
    if wall is None:
        return f"{'-':>22}"
    time = f"{wall / best:8.2f}" if row.timed else f"{'-':>8}"
    return f"{time}{results.median(row, name, 'peak_kib') / 1024:7.1f}" \
           f"{results.median(row, name, 'soft_faults'):7.0f}"


def table(results, ratios):
    names = [a.name for a in results.allocators]
    lines = [f"{'':19}{'best':>10}" + "".join(f"{n:>22}" for n in names)
             + f"{results.ours + '/best other':>24}{'RSS':>7}",
             f"{'':19}{'':>10}" + f"{'time    MiB faults':>22}" * len(names)
             + f"{'time  [95 %]':>24}{'ratio':>7}"]
    family = None
    for row in results.rows:
        if row.family != family:
            family = row.family
            lines.append(f"-- {family}")
        walls = {n: results.median(row, n, "wall") for n in names}
        known = {n: w for n, w in walls.items() if w}
        if not known:
            lines.append(f"{row.name:19}{'':>10}" + "".join(
                cell(results, row, n, 1) for n in names))
            continue
        best = min(known, key=known.get)
        ops = results.median(row, best, "ops")
        lines.append(f"{row.name:19}{duration(known[best] / ops):>10}"
                     + "".join(cell(results, row, n, known[best]) for n in names)
                     + tail(results, row, ratios.get(row.name)))
    return lines


def tail(results, row, found):
    memory = memory_ratio(results, row)
    text = f"{'-':>24}"
    if found:
        mark = "*" if found[1] > WORSE else " "
        text = f"{found[0]:8.2f} [{found[1]:6.2f}-{found[2]:6.2f}]{mark}"
    return text + (f"{memory[0]:7.2f}" if memory else f"{'-':>7}")


def duration(seconds):
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "us"), (1, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def legend(results):
    return ["", "best: the shortest median, of an operation (of a whole run for real programs). Per "
            "allocator: median time as a ratio to it, peak resident MiB, soft faults.",
            f"Last columns: median of {results.ours} over the best peer, with a 95 % interval (* its "
            f"lower end is above {WORSE:.2f}); peak RSS over the smallest of the row."]


# ---- points, failures, summary

def points(results):
    """N for the first of N down to 1 for the last; nothing for who failed."""
    names = [a.name for a in results.allocators]
    total = dict.fromkeys(names, 0)
    firsts = dict.fromkeys(names, 0)
    nr_rows = 0
    for row in results.rows:
        walls = {n: results.median(row, n, "wall") for n in names}
        order = sorted((n for n in names if walls[n] is not None), key=lambda n: walls[n])
        if not row.timed or not order:
            continue
        nr_rows += 1
        firsts[order[0]] += 1
        for place, name in enumerate(order):
            total[name] += len(names) - place
    return total, firsts, nr_rows


def overall(results, name):
    """Geometric means over the best, or smallest, of each row, that allocator included."""
    times, sizes = [], []
    for row in results.rows:
        for key, found in (("wall", times), ("peak_kib", sizes)):
            if key == "wall" and not row.timed:
                continue
            values = [results.median(row, a.name, key) for a in results.allocators]
            mine = results.median(row, name, key)
            if mine:
                found.append(mine / min(v for v in values if v))
    return (geomean(times) if times else math.nan, geomean(sizes) if sizes else math.nan)


def ranking(results):
    if not results.rows:
        return []
    total, firsts, nr_rows = points(results)
    lines = [f"{'rank':6}{'allocator':20}{'points':>8}{'of':>6}{'firsts':>8}{'time':>8}{'RSS':>8}"
             "   (geometric means over the best of each row)"]
    for place, name in enumerate(sorted(total, key=total.get, reverse=True), 1):
        time, size = overall(results, name)
        lines.append(f"{place:<6}{name:20}{total[name]:8}{nr_rows * len(total):6}"
                     f"{firsts[name]:8}{time:8.3f}{size:8.3f}")
    return lines


def failures(results):
    return [f"FAILED: {row.name} under {a.name}: {results.trouble(row, a.name)}"
            for row in results.rows for a in results.allocators if results.trouble(row, a.name)]


def against(mean, goal, judged):
    if not judged:
        return ""
    return f", to reach {goal:.2f}: {'reached' if mean <= goal else 'NOT reached'}"


def summary(results, ratios, judged=True):
    """Our figures, against what is to be reached unless only builds of ours are compared."""
    timed = [(row, ratios[row.name]) for row in results.rows if ratios.get(row.name)]
    lines = []
    if timed:
        found = [r for _, r in timed]
        mean, low, high = geomean_interval(found)
        worse = sorted(((row.name, r) for row, r in timed if r[1] > WORSE), key=lambda x: -x[1][0])
        won = sum(r[0] <= TIED for r in found)
        lines.append(f"time, geometric mean of {len(found)} rows over the best peer of each: {mean:.3f} "
                     f"[{low:.3f}-{high:.3f}]{against(mean, GOAL_TIME, judged)}")
        lines.append(f"rows whose interval is above {WORSE:.2f}: {len(worse)} of {len(found)}"
                     + "".join(f"\n    {name} {r[0]:.2f} [{r[1]:.2f}-{r[2]:.2f}]"
                               for name, r in worse))
        lines.append(f"rows won or tied within 3 %: {won} of {len(found)}, "
                     f"{100 * won / len(found):.0f} %")
        real = [r for row, r in timed if row.family == "program"]
        if real:
            lines.append("time of real programs alone: {:.3f} [{:.3f}-{:.3f}]".format(
                *geomean_interval(real)))
    return lines + memory_summary(results, judged)


def memory_summary(results, judged):
    sizes = {"rows below 16 MiB": [], "rows above": [], "real programs": []}
    averages = []
    for row in results.rows:
        peak, mean = memory_ratio(results, row), memory_ratio(results, row, "mean_kib")
        if mean:
            averages.append(mean[0])
        if peak is None:
            continue
        kind = "real programs" if row.family == "program" else \
            "rows below 16 MiB" if peak[1] < SMALL_KIB else "rows above"
        sizes[kind].append(peak[0])
    lines = []
    for (kind, found), goal in zip(sizes.items(), (GOAL_SMALL, GOAL_LARGE, GOAL_PROGRAMS)):
        if found:
            mean = geomean(found)
            lines.append(f"peak RSS over the smallest, {kind} ({len(found)}): {mean:.3f}"
                         f"{against(mean, goal, judged)}")
    if averages:
        lines.append(f"time-averaged RSS over the smallest, {len(averages)} rows: "
                     f"{geomean(averages):.3f}")
    return lines


def extras(results):
    """What some rows measure beside time: resident size after freeing, and the like."""
    lines = []
    for row in results.rows:
        keys = dict.fromkeys(k for samples in results.samples[row.name].values()
                             for s in samples for k in s["extra"] if k.endswith("_kib"))
        for key in keys:
            cells = [results.extra(row, a.name, key) for a in results.allocators]
            lines.append(f"{row.name + ' ' + key:32}" + "".join(
                f"{'-' if c is None else f'{c / 1024:.1f} MiB':>14}" for c in cells))
    if lines:
        lines.insert(0, f"{'resident after':32}" + "".join(
            f"{a.name:>14}" for a in results.allocators))
    return lines


PERCENTILES = [f"{op}_{p}" for op in ("malloc", "free", "realloc")
               for p in ("p50", "p95", "p99", "p99.9")]


def latency(results):
    """Tenths of nanoseconds come from the programs."""
    lines = ["one pass; m: malloc (realloc in rows of realloc), f: free; the timer cannot tell less apart",
             f"{'single operations, ns':20}{'allocator':>14}{'(timer)':>9}"
             + "".join(f"{p.replace('malloc', 'm').replace('free', 'f'):>11}"
                       for p in PERCENTILES[:8])]
    for row in results.rows:
        for a in results.allocators:
            values = [results.extra(row, a.name, p) for p in ["timer", *PERCENTILES[:8]]]
            if values[1] is None:  # rows of realloc alone
                values[1:5] = [results.extra(row, a.name, p) for p in PERCENTILES[8:]]
            lines.append(f"{row.name:20}{a.name:>14}" + "".join(
                f"{'-' if v is None else f'{v / 10:.0f}':>{9 if i == 0 else 11}}"
                for i, v in enumerate(values)))
    return lines


# ---- files

COLUMNS = ("row", "family", "allocator", "round", "outcome", "ops", "wall", "cpu", "peak_kib",
           "mean_kib", "soft_faults", "hard_faults")


def write_csv(results, path):
    with open(path, "w", newline="") as f:
        out = csv.writer(f)
        out.writerow([*COLUMNS, "extra"])
        for row in results.rows:
            for name, samples in results.samples[row.name].items():
                for s in samples:
                    values = {**s, "row": row.name, "family": row.family, "allocator": name}
                    out.writerow([values.get(c, "") for c in COLUMNS]
                                 + [" ".join(f"{k}={v}" for k, v in s.get("extra", {}).items())])


def as_json(results, ratios):
    rows = []
    for row in results.rows:
        found = ratios.get(row.name)
        rows.append({
            "name": row.name, "family": row.family, "what": row.what,
            "samples": results.samples[row.name],
            "median": {a.name: {k: results.median(row, a.name, k) for k in COLUMNS[5:]}
                       for a in results.allocators},
            "ratio": found and {"value": found[0], "low": found[1], "high": found[2]}})
    return {"allocators": [{"name": a.name, "library": a.library, "env": a.env}
                           for a in results.allocators], "rows": rows}


def write_json(document, path):
    with open(path, "w") as f:
        json.dump(document, f, indent=1)
