# SPDX-License-Identifier: MIT
"""What the promises cost: the library is built once more without each of them, in a scratch directory, and both
are measured side by side. Instructions are callgrind's slope over two numbers of operations, exact; times are
medians of interleaved runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from allocators import Allocator
from measure import clean_environment

# Name: (configure options of a build without it, environment without it).
SWITCHES = {"no-checks": (["--disable-checks"], {})}
ROWS = ("pair-16", "pair-1K", "json-64K-first-byte", "tiny-hot", "tiny-lifo", "tiny-fifo", "random-1",
        "mid-1", "live-1M", "crossing-2", "handoff-64")
INSTRUCTION_ROWS = ROWS[:8]
# Thousandths of each row's steps: enough to leave its start behind, few enough for valgrind.
COUNTED = (4, 12)


def build(source, options, directory, cc):
    """A library configured as asked, from the source tree that this one was built from."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "build.log"
    with log.open("w") as out:
        for command in ([str(Path(source).resolve() / "configure"), *options, *([f"CC={cc}"] if cc else [])],
                        ["make", f"-j{os.cpu_count()}", "libhakmem.la"]):
            if subprocess.run(command, cwd=directory, stdout=out, stderr=out,
                              env=clean_build_environment(), check=False).returncode != 0:
                raise SystemExit(f"run.py: cannot build {' '.join(options)}: {log.read_text()[-500:]}")
    return str((directory / ".libs/libhakmem.so.0").resolve())


def clean_build_environment():
    """Without what an outer make passes down."""
    return {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def variants(ours, source, work, cc):
    """Ours, and a copy without each promise."""
    found = [ours]
    for name, (options, env) in SWITCHES.items():
        library = build(source, options, work / name, cc) if options else ours.library
        found.append(Allocator(f"hakmem-{name}", library, {**ours.env, **env}))
    return found


def count(suite, row, scale, allocator, work):
    """(instructions, operations) of a run."""
    out = Path(work) / "callgrind"
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", str(suite), row, "--scale",
         str(scale)], env={**clean_environment(), **allocator.environment()},
        capture_output=True, text=True, timeout=600, check=False)
    total = re.search(r"Collected : (\d+)", done.stderr)
    ops = re.search(r"^ops (\d+)", done.stdout, re.M)
    if done.returncode != 0 or not total or not ops:
        return None
    return int(total.group(1)), int(ops.group(1))


def instructions(suite, allocators, work):
    """Lines of a table: instructions per operation, the workload's own loop included."""
    if not shutil.which("valgrind"):
        return ["instructions: skipped, valgrind is not installed"]
    lines = [f"{'instructions/op':22}" + "".join(f"{a.name:>20}" for a in allocators)
             + f"{'price':>10}"]
    for row in INSTRUCTION_ROWS:
        slopes = []
        for a in allocators:
            few, many = (count(suite, row, s, a, work) for s in COUNTED)
            slopes.append((many[0] - few[0]) / (many[1] - few[1]) if few and many else None)
        cells = "".join(f"{'failed' if s is None else f'{s:.1f}':>20}" for s in slopes)
        price = "" if None in slopes else f"{slopes[0] - slopes[1]:+10.1f}"
        lines.append(f"{row:22}{cells}{price}")
    return lines
