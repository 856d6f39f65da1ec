#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What allocators notice of the public misuse corpus: the security programs of mimalloc-bench.

    public.py [--runs N] [--only PATTERN] [--each] CORPUS [NAME=LIBRARY[@OPTIONS]...]
    public.py --self-check

CORPUS is a directory with the files of bench/security of github.com/daanx/mimalloc-bench (bench/README.md says which
versions). Each .c is built for blocks of 8, 4096 and 262144 bytes, each .cc once: 116 programs. Without names: glibc and
Debian's jemalloc, mimalloc and tcmalloc, as far as they are installed. OPTIONS go into HAKMEM_OPTIONS.

A program's run counts as
    missed  it says NOT_CAUGHT, whatever comes after
    text    it dies, and a line on stderr names the error
    died    it dies, or ends with a status that is not 0
    ended   it ends well and does not say NOT_CAUGHT: the allocator did what the program looked for (zeroed memory, say)
    hang    none of these in 60 seconds
and a program as the worst of its N runs (10). caught = text + died + ended. --each prints every program's runs."""

import argparse
import collections
import concurrent.futures
import fnmatch
import glob
import os
import re
import subprocess
import sys
import tempfile

FLAGS = "-w -Wno-free-nonheap-object -fno-inline -fno-builtin-inline -fno-inline-small-functions".split()
BUILDS = {
    ".c": ["cc", *FLAGS, "-fno-builtin"],
    ".cc": ["c++", "-w", "-std=c++17", "-fsized-deallocation"],
}
SIZES = {".c": {"small": "8", "medium": "4096", "large": "256*1024"}, ".cc": {"": "4096"}}
OLD = re.compile("(free|flow|malloc)_(small|large|big)")  # of the time before ALLOCATION_SIZE
NR_PROGRAMS = 116
FAMILIES = (
    ("double free", "double_free*"),
    ("invalid free", "invalid_free*"),
    ("C++ mismatch", "*delete_*"),
    ("overflow", "*_overflow*"),
    ("underflow", "*_underflow*"),
    ("write after free", "write_after_free*"),
    ("block of size 0", "*_zero_size*"),
    ("zeroed memory", "zero_*"),
    ("reuse", "*alloc_reuse*"),
    ("executable heap, impossible size", "*"),
)
WORST_FIRST = ("missed", "hang", "ended", "died", "text")
NAMES_AN_ERROR = re.compile(rb"free|alloc|corrupt|invalid|overflow|underflow|mismatch|canary", re.I)
KNOWN = {"jemalloc": "libjemalloc.so.2", "mimalloc": "libmimalloc.so.2*", "tcmalloc": "libtcmalloc_minimal.so.4"}


def classify(status, out, err):
    """status: as subprocess has it, negative for a signal; None: it had to be killed."""
    if b"NOT_CAUGHT" in out:
        return "missed"
    if status is None:
        return "hang"
    if status == 0:
        return "ended"
    return "text" if NAMES_AN_ERROR.search(err) else "died"


def run(program, library, options, timeout=60):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD" and not k.startswith("HAKMEM_")}
    env.update({"LD_PRELOAD": library} if library else {})
    env.update({"HAKMEM_OPTIONS": options} if options else {})
    try:
        done = subprocess.run([program], env=env, capture_output=True, timeout=timeout, cwd="/")
        status, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        status, out, err = None, late.stdout or b"", late.stderr or b""
    if b"cannot be preloaded" in err:
        sys.exit(f"public.py: {err.decode(errors='replace')}")
    return classify(status, out, err)


def worst(verdicts):
    return min(verdicts, key=WORST_FIRST.index)


def sources(corpus):
    for path in sorted(glob.glob(os.path.join(glob.escape(corpus), "*.c*"))):
        name, ending = os.path.splitext(os.path.basename(path))
        if ending in BUILDS and not OLD.search(name):
            yield path, name, ending


def build(corpus, into):
    """name of each program -> its file"""
    programs = {}
    for path, name, ending in sources(corpus):
        for word, size in SIZES[ending].items():
            program = f"{name}.{word}" if word else name
            programs[program] = os.path.join(into, program)
            subprocess.run([*BUILDS[ending], f"-DALLOCATION_SIZE={size}", "-o", programs[program], path], check=True)
    return programs


def family_of(program):
    return next(family for family, pattern in FAMILIES if fnmatch.fnmatch(program, pattern))


def measure(programs, allocators, runs):
    """(allocator, program) -> its verdicts"""
    jobs = [(a, p) for a in allocators for p in programs for _ in range(runs)]
    seen = collections.defaultdict(list)
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        verdicts = pool.map(lambda job: run(programs[job[1]], *allocators[job[0]]), jobs)
        for job, verdict in zip(jobs, verdicts):
            seen[job].append(verdict)
    return seen


def cell(verdicts):
    text, hang = verdicts.count("text"), verdicts.count("hang")
    caught = text + verdicts.count("died") + verdicts.count("ended")
    return f"{caught} / {text}" + (f", {hang} hang" if hang else "")


def table(programs, allocators, seen):
    yield "| caught / with text | programs | " + " | ".join(allocators) + " |"
    yield "|---" * (2 + len(allocators)) + "|"
    for family in [f for f, _ in FAMILIES] + ["all"]:
        rows = [p for p in programs if family in ("all", family_of(p))]
        cells = [cell([worst(seen[a, p]) for p in rows]) for a in allocators]
        yield f"| {family} | {len(rows)} | " + " | ".join(cells) + " |"


def each(programs, allocators, seen):
    for p in programs:
        for a in allocators:
            count = collections.Counter(seen[a, p])
            yield f"{p}\t{a}\t" + " ".join(f"{v} {count[v]}" for v in WORST_FIRST if count[v])


# ---- does it tell one from the other? ------------------------------------------------------------

OWN = {
    "missed": 'puts("NOT_CAUGHT"); fflush(stdout); fputs("double free\\n", stderr); abort();',
    "text": 'fputs("double free\\n", stderr); abort();',
    "died": 'fputs("a sentence of the program itself\\n", stderr); abort();',
    "ended": "return 0;",
    "hang": "for (;;) pause();",
}


def fail_unless(truth, what):
    if not truth:
        sys.exit(f"public.py: self-check: {what}")


def self_check():
    with tempfile.TemporaryDirectory() as d:
        for name, body in OWN.items():
            with open(f"{d}/{name}.c", "w", encoding="ascii") as f:
                f.write(f"#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint main(void) {{ {body} }}\n")
        with open(f"{d}/double_free_large_old.c", "w", encoding="ascii") as f:
            f.write("#error not to be built\n")
        os.mkdir(f"{d}/built")
        programs = build(d, f"{d}/built")
        fail_unless(len(programs) == 3 * len(OWN), f"{len(programs)} programs built")
        for name in OWN:
            got = run(programs[f"{name}.small"], "", "", timeout=5)
            fail_unless(got == name, f"{name} was taken for {got}")
    fail_unless(worst(["text", "died", "missed", "ended"]) == "missed", "worst of four runs")
    fail_unless(cell(["text", "died", "ended", "missed", "hang"]) == "3 / 1, 1 hang", "sums")
    fail_unless(family_of("one_byte_memcpy_underflow.small") == "underflow", "families")
    print("public.py: self-check passed")


def installed():
    found = {"glibc": ("", "")}
    for name, pattern in KNOWN.items():
        paths = sorted(glob.glob(f"/usr/lib/*/{pattern}"))
        if paths:
            found[name] = (paths[0], "")
    return found


def named(words):
    allocators = {}
    for word in words:
        name, _, rest = word.partition("=")
        library, _, options = rest.partition("@")
        if library and not os.path.isfile(library):
            sys.exit(f"public.py: no file {library}")
        allocators[name] = (os.path.abspath(library) if library else "", options)
    return allocators


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--self-check", action="store_true")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--only", default="*")
    parser.add_argument("--each", action="store_true")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    if options.self_check:
        return self_check()
    if not options.words:
        sys.exit(__doc__)
    allocators = named(options.words[1:]) or installed()
    with tempfile.TemporaryDirectory() as d:
        programs = build(options.words[0], d)
        if len(programs) != NR_PROGRAMS:
            sys.exit(f"public.py: {len(programs)} programs in {options.words[0]}, expected {NR_PROGRAMS}")
        programs = {p: f for p, f in programs.items() if fnmatch.fnmatch(p, options.only)}
        seen = measure(programs, allocators, options.runs)
    if options.each:
        print("\n".join(each(programs, allocators, seen)))
    print("\n".join(table(programs, allocators, seen)))
    return None


main()
