#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""quick.py [-r ROUNDS] [-o FILE.csv] PROGRAM NAME=LIBRARY... [-- WORKLOAD...]

Runs bench/quick under each allocator (an empty LIBRARY: libc's own), interleaved and rotated, and prints per
workload the median time of each as a ratio to the best, peak RSS and minor faults. The first name is ours: its
ratio to the best of the others stands in the last column, rows above 1.3 are marked. ROUNDS defaults to 5."""

import math
import os
import statistics
import subprocess
import sys


def measure(program, library, workload):
    env = dict(os.environ, LD_PRELOAD=library)
    out = subprocess.run([program, workload], env=env, capture_output=True, text=True, timeout=300)
    if out.returncode != 0:
        return None
    _, seconds, kib, faults = out.stdout.split()
    return float(seconds), int(kib), int(faults)


def median_of(samples, i):
    return statistics.median(s[i] for s in samples)


def main(argv):
    rounds, csv, only = 5, None, []
    if "--" in argv:
        argv, only = argv[: argv.index("--")], argv[argv.index("--") + 1:]
    while argv and argv[0] in ("-r", "-o"):
        if argv[0] == "-r":
            rounds = int(argv[1])
        else:
            csv = open(argv[1], "w")
        argv = argv[2:]
    program, libraries = argv[0], dict(a.split("=", 1) for a in argv[1:])
    names = list(libraries)
    workloads = only or subprocess.run([program], capture_output=True, text=True).stdout.split()
    print(f"{'workload':18}" + "".join(f"{n:>22}" for n in names) + f"{names[0] + '/best':>12}")
    print(f"{'':18}" + f"{'time  MiB  faults':>22}" * len(names))
    ratios = []
    for workload in workloads:
        samples = {n: [] for n in names}
        for r in range(rounds):
            for k in range(len(names)):
                name = names[(r + k) % len(names)]
                sample = measure(program, libraries[name], workload)
                if sample:
                    samples[name].append(sample)
                    if csv:
                        print(workload, name, r, *sample, sep=",", file=csv, flush=True)
        times = {n: median_of(s, 0) for n, s in samples.items() if s}
        times = {n: max(t, 1e-6) for n, t in times.items()}
        best = min(times.values())
        row = f"{workload:18}"
        for n in names:
            if n not in times:
                row += f"{'failed':>22}"
                continue
            row += f"{times[n] / best:8.2f} {median_of(samples[n], 1) / 1024:6.1f} {median_of(samples[n], 2):6.0f}"
        ratio = times[names[0]] / min(t for n, t in times.items() if n != names[0])
        if workload != "nothing":
            ratios.append(ratio)
        print(row + f"{ratio:11.2f}" + (" *" if ratio > 1.3 else ""), flush=True)
    print(f"geometric mean of {names[0]}/best: {math.exp(statistics.mean(map(math.log, ratios))):.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
