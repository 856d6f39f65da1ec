#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Damaged snapshots and core dumps are refused by hakmem-stats with a sentence, never by a signal.

usage: stats_files.py PROGRAM snapshot|core FILE SCRATCH [SEED [ROUNDS]]   (no output: all is well)
"""

import random
import subprocess
import sys

REFUSED = (3, 5)


def run(program, kind, path, view):
    command = [program, view, path, "--json"] if kind == "snapshot" else [program, "core", path, view, "--json"]
    return subprocess.run(command, capture_output=True, timeout=30, errors="replace")


def complaint(what, done):
    """Why the run is not acceptable, or None."""
    if done.returncode == 0:
        return None
    if done.returncode not in REFUSED:
        return f"{what}: status {done.returncode}: {done.stderr[:1500]}"
    if not done.stderr.startswith("hakmem-stats: "):
        return f"{what}: refused without a sentence"
    return None


def lengths(size, rng):
    """Where to cut: the first bytes, the headers, anywhere."""
    return sorted({0, 1, 7, 8, 16, 63, 64, 127, 128, 129, size - 1, size // 2} |
                  {rng.randrange(size) for _ in range(20)})


def damaged(data, kind, rng, rounds):
    for length in lengths(len(data), rng):
        yield f"cut to {length}", data[:length]
    # Of a core, the headers and notes are what is parsed; the rest is memory.
    reach = len(data) if kind == "snapshot" else min(len(data), 16384)
    for number in range(rounds):
        copy = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(reach if rng.random() < 0.5 else min(reach, 1024))
            copy[at] = rng.choice((0, 1, 0x7f, 0x80, 0xff, rng.randrange(256)))
        yield f"bent {number}", copy


def main():
    program, kind, path, scratch = sys.argv[1:5]
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    rounds = int(sys.argv[6]) if len(sys.argv) > 6 else 100
    rng = random.Random(seed)
    data = open(path, "rb").read()
    if run(program, kind, path, "show").returncode != 0:
        sys.exit(f"the {kind} itself is refused")
    nr_refused = 0
    for what, content in damaged(data, kind, rng, rounds):
        with open(scratch, "wb") as f:
            f.write(content)
        view = rng.choice(("show", "sites", "hist", "why", "config"))
        done = run(program, kind, scratch, view)
        nr_refused += done.returncode != 0
        problem = complaint(f"seed {seed}, {what}, {view}", done)
        if problem:
            sys.exit(problem)
    if nr_refused < 5:
        sys.exit("next to nothing was refused: the damage does not reach what is parsed")


main()
