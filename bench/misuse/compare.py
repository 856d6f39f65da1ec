#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What allocators notice of a misused heap: every case of tests/death under each of them.

    compare.py DEATH [NAME=LIBRARY[@OPTIONS]...]

DEATH is the built tests/death/death. Without names: glibc and Debian's jemalloc, mimalloc and tcmalloc, as far as
they are installed. A case counts as `text` when the program dies and says a line that names an error, as `caught`
when it dies by a signal, as `missed` when it ends as if nothing had happened, and as `hang` after 20 seconds. Cases that cannot be
had somewhere are left out there. OPTIONS go into HAKMEM_OPTIONS. The corpus is libhakmem's own: compare families, and run another corpus too."""

import glob
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SKIPPED = 77
KNOWN = {
    "jemalloc": "libjemalloc.so.2",
    "mimalloc": "libmimalloc.so.2*",
    "tcmalloc": "libtcmalloc_minimal.so.4",
}


def installed():
    found = {"glibc": ""}
    for name, pattern in KNOWN.items():
        paths = sorted(glob.glob(f"/usr/lib/*/{pattern}"))
        if paths:
            found[name] = paths[0]
    return found


def verdict(death, library, case):
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "HK_LIB")}
    library, _, options = library.partition("@")
    if library:
        env["LD_PRELOAD"] = library
    if options:
        env["HAKMEM_OPTIONS"] = options
    try:
        run = subprocess.run([death, case, "1"], env=env, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "hang"
    if run.returncode == SKIPPED:
        return "skip"
    if run.returncode >= 0:
        return "missed"
    return "text" if run.stderr.strip() else "caught"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    death = sys.argv[1]
    allocators = dict(a.split("=", 1) for a in sys.argv[2:]) if len(sys.argv) > 2 else {}
    allocators.update({k: v for k, v in installed().items() if k not in allocators})
    listing = subprocess.run([death, "--list"], capture_output=True, text=True, check=True).stdout
    cases = [line.split("\t") for line in listing.splitlines()]
    jobs = [(a, family, case) for a in allocators for family, case in cases]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        verdicts = list(pool.map(lambda job: verdict(death, allocators[job[0]], job[2]), jobs))
    table = {}
    for (allocator, family, _), v in zip(jobs, verdicts):
        for row in (family, "all"):
            table.setdefault(row, {}).setdefault(allocator, []).append(v)
    print("| died with a text / died in all / cases | " + " | ".join(allocators) + " |")
    print("|---|" + "---|" * len(allocators))
    for row, columns in table.items():
        cells = []
        for v in (columns[a] for a in allocators):
            text, caught = v.count("text"), v.count("caught")
            hang = f", {v.count('hang')} hang" if v.count("hang") else ""
            cells.append(f"{text} / {text + caught} / {len(v) - v.count('skip')}{hang}")
        print(f"| {row} | " + " | ".join(cells) + " |")


main()
