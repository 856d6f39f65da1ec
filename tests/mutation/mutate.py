#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mutation testing: changes one thing in the library, builds it in a tree of its own (mutate-tree/) and runs tests, the
quickest and nearest first, until one fails. A mutant that no test notices is a survivor: the tests do not hold that line.

  condition    if (X) becomes if (!(X))
  comparison   < <= > >= == != && || become their neighbours
  order        acquire and release become relaxed; found by the labels' lint, else under the thread sanitizer
  statement    a call or an assignment is removed

A mutant whose library is the same to the byte is no mutant (equivalent), one that does not compile neither; neither
counts. mutate-results holds a line a mutant and is continued by the next call with the same seed.

usage: mutate.py [--mutants N] [--seed N] [--kinds LIST] [--only FILE-PART] [--seconds N] [--trust] [--list]
"""

import argparse
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

SRC = Path(os.environ.get("HK_SRCDIR", ".")).resolve()
TREE = Path("mutate-tree").resolve()
PLAIN, TSAN = TREE / "build", TREE / "build-tsan"

# Where a pointer is judged and where blocks and snapshots change hands: all kinds of mutants.
CHECKS = """ace/ace.c ace/ace_big.c ace/ace_loan.c entry/malloc.c heap/heap_inline.h heap/heap_remote.c l25/l25_inline.h
pagemap/pagemap.c pagemap/pagemap.h policy/policy.c slab/slab.c sync/lock.c""".split()
# Memory orders alone: the rest decides how much is cached, and when it goes, where another number is no fault.
ORDERS = """arena/arena.c batch/batch.c bigcache/bigcache.c heap/heap.c heap/heap_park.c l25/l25.c meta/meta.c span/span.c
thread/thread.c""".split()
FILES = CHECKS + ORDERS
# Such decisions in the files of the first list.
DECISIONS = re.compile(r"tick|trim|purge|cache|budget|resident|watch|background|bytes|obey|limit|timed|set_live|counter|"
                       r"good_size|perturb|option|mallopt|tell_sites|site|fill_")
FUNCTION = re.compile(r"^(?!#|typedef|extern|_Static)[A-Za-z_].*?\b(\w+)\((?!.*;$)")
SECONDS = 40

CONDITION = re.compile(r"\b(?:if|while) \(")
COMPARISON = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ",
              " && ": " || ", " || ": " && "}
ORDER = re.compile(r"\bhk_(load|store|exchange|sub|cas)_(acquire|release|acq_rel)\(")
STATEMENT = re.compile(r"^\s+(?!return|goto|break|continue|case|else|static|struct|const|size_t|unsigned|int|bool|u?int\d+_t|"
                       r"void|char|enum|if|for|while|do|switch|typedef|extern)[\w>.\[\]*()&-]+( [-+|&]?= .*|\(.*\));$")


def closing(text, start):
    """Index of the parenthesis that closes the one at `start`, or -1."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i
    return -1


def code_of(line, inside):
    """The line with comments and strings blanked, and whether a comment goes on."""
    out, i = [], 0
    while i < len(line):
        if inside:
            end = line.find("*/", i)
            stop = len(line) if end < 0 else end + 2
            inside = end < 0
            out.append(" " * (stop - i))
            i = stop
        elif line.startswith("/*", i):
            inside = True
        elif line.startswith("//", i):
            out.append(" " * (len(line) - i))
            i = len(line)
        elif line[i] == '"':
            end = line.find('"', i + 1)
            stop = len(line) if end < 0 else end + 1
            out.append(" " * (stop - i))
            i = stop
        else:
            out.append(line[i])
            i += 1
    return "".join(out), inside


def mutants_of_line(line, code):
    """(kind, new line) for each thing that can be changed."""
    found = []
    match = CONDITION.search(code)
    if match:
        start = match.end() - 1
        end = closing(code, start)
        if end > 0:
            found.append(("condition", line[:start + 1] + "!(" + line[start + 1:end] + ")" + line[end:]))
    if "for (" not in code and not code.lstrip().startswith(("#", "_Static")):
        for old, new in COMPARISON.items():
            at = code.find(old)
            while at >= 0:
                found.append(("comparison", line[:at] + new + line[at + len(old):]))
                at = code.find(old, at + 1)
    for match in ORDER.finditer(code):
        name = "__atomic_exchange_n_relaxed(" if match[1] == "exchange" else f"hk_{match[1]}_relaxed("
        found.append(("order", line[:match.start()] + name + line[match.end():]))
    if STATEMENT.match(code.rstrip()) and "ASSERT" not in code and "__atomic" not in code:
        indent = len(line) - len(line.lstrip())
        found.append(("statement", line[:indent] + ";"))
    return found


def all_mutants():
    found = []
    for name in FILES:
        inside, function = False, ""
        for number, line in enumerate((SRC / "lib" / name).read_text().split("\n"), 1):
            code, inside = code_of(line, inside)
            seen = set()
            match = FUNCTION.match(code)
            function = match[1] if match else function
            for kind, new in mutants_of_line(line, code):
                if kind != "order" and (name in ORDERS or DECISIONS.search(function)):
                    continue
                if new != line and new not in seen:
                    seen.add(new)
                    found.append((kind, name, number, line, new))
    return found


# ---- building and running --------------------------------------------------------------------------------------------


def run(command, cwd, seconds=SECONDS, env=None):
    """Exit status, None: it took too long. A mutant that loops must not outlive its test."""
    with subprocess.Popen(command, cwd=cwd, shell=isinstance(command, str), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          stdin=subprocess.DEVNULL, start_new_session=True, env={**os.environ, **(env or {})}) as process:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                pass


def prepare(directory, options):
    if not (directory / "Makefile").exists():
        directory.mkdir(parents=True)
        if run([str(TREE / "src/configure"), "--quiet", "--disable-static", *options], directory, 300) != 0:
            sys.exit(f"configure failed in {directory}")
    if run(["make", "-s", "-j2", "libhakmem.la"] if directory == PLAIN else ["make", "-s", "-j2", "libhakmem_core.la"], directory, 900) != 0:
        sys.exit(f"make failed in {directory}")


def copy_tree():
    shutil.rmtree(TREE / "src", ignore_errors=True)
    keep = shutil.ignore_patterns(".git", "build*", "autom4te.cache", "*.o", "*.lo", "debian", "bench-results*", "mutate-tree", "corpus")
    shutil.copytree(SRC, TREE / "src", ignore=lambda d, names: keep(d, [n for n in names if n != "build-aux"]), symlinks=True)
    (TREE / "src/tests/fuzz/corpus").mkdir(parents=True, exist_ok=True)
    # An earlier call may have ended inside a mutant: its objects are newer than the file that is whole again.
    for name in FILES:
        (TREE / "src/lib" / name).touch()


def library_hash():
    data = (PLAIN / ".libs/libhakmem.so.0.0.0").read_bytes()
    return hashlib.sha256(data).hexdigest()


UNIT_OF = {"ace": ["ace", "any_policy"], "entry": ["ace"], "pagemap": ["pagemap", "slab"], "heap": ["heap", "slab", "ace"],
           "thread": ["options"], "policy": ["policy", "any_policy"], "span": ["span", "slab"], "arena": ["arena", "ace"],
           "bigcache": ["bigcache", "ace"], "batch": ["batch", "ace"], "l25": ["l25", "ace"], "slab": ["slab", "heap"]}
TSAN_TESTS = ["sync", "heap", "l25", "policy", "any_policy"]
INTEGRATION = ["semantics", "stats", "early", "signals"]


def stages(kind, name):
    """(label, directory, things to make, command, environment), in the order in which they are tried."""
    box = name.split("/")[0]
    test = {"CK_VERBOSITY": "silent", "CK_FORK": "yes"}
    library = {"HK_LIB": str(PLAIN / ".libs/libhakmem.so.0"), "HK_BUILDDIR": str(PLAIN), "HK_SRCDIR": str(TREE / "src")}
    preload = {**library, "LD_PRELOAD": library["HK_LIB"]}
    if kind == "order":
        yield "lint labels", TREE / "src", [], [sys.executable, "tests/lint/labels.py"], {"HK_SRCDIR": str(TREE / "src")}
        for unit in TSAN_TESTS:
            program = f"tests/unit/test_{unit}"
            yield f"tsan {unit}", TSAN, [program], ["setarch", "-R", f"./{program}"], test
    for unit in UNIT_OF.get(box, [box]):
        program = f"tests/unit/test_{unit}"
        yield f"unit {unit}", PLAIN, [program], [f"./{program}"], test
    yield "death", PLAIN, ["tests/death/death"], ["./tests/death/death"], library
    model = ["./tests/model/model", "--quiet", "--seed", "3", "--ops"]
    yield "model", PLAIN, ["tests/model/model"], [*model, "1M"], preload
    yield "model, threads", PLAIN, ["tests/model/model"], [*model, "1M", "--threads", "3"], preload
    for unit in ["ace", "heap", "export", "any_policy"]:
        if unit not in UNIT_OF.get(box, [box]):
            program = f"tests/unit/test_{unit}"
            yield f"unit {unit}", PLAIN, [program], [f"./{program}"], test
    for program in INTEGRATION:
        path = f"tests/integration/{program}"
        yield f"integration {program}", PLAIN, [path], [f"./{path}"], library


def judge(kind, name, base):
    """What killed it, "survived", "equivalent" or "stillborn"."""
    if kind != "order":
        if run(["make", "-s", "libhakmem.la"], PLAIN, 200) != 0:
            return "stillborn"
        if library_hash() == base:
            return "equivalent"
    built = set()
    for label, directory, programs, command, env in stages(kind, name):
        if directory not in built and directory != TREE / "src":
            targets = ["libhakmem.la"] if directory == PLAIN else ["libhakmem_core.la"]
            if run(["make", "-s", *targets], directory, 200) != 0:
                return "stillborn"
            built.add(directory)
        if programs and run(["make", "-s", *programs], directory, 200) != 0:
            return "stillborn"
        status = run(command, directory, SECONDS, env)
        if status is None and label.startswith("tsan"):
            continue # slow at any time: says nothing
        if status != 0:
            return f"killed by {label}" + (" (too long)" if status is None else "")
    return "survived"


def baseline():
    for kind in ("order", "statement"):
        for box in sorted({f.split("/")[0] for f in FILES}):
            for label, directory, programs, command, env in stages(kind, box + "/"):
                if (label, "done") in BASE_DONE:
                    continue
                BASE_DONE.add((label, "done"))
                if programs and run(["make", "-s", *programs], directory, 600) != 0:
                    sys.exit(f"cannot build {programs}")
                if run(command, directory, SECONDS * 3, env) not in (0, 77):
                    sys.exit(f"without a mutation {label} fails already")


BASE_DONE = set()


def choose(arguments):
    mutants = [m for m in all_mutants() if m[0] in arguments.kinds.split(",") and arguments.only in m[1]]
    rng = random.Random(arguments.seed)
    # All orders first: there are few. Then what the seed draws.
    orders = [m for m in mutants if m[0] == "order"]
    others = [m for m in mutants if m[0] != "order"]
    rng.shuffle(others)
    head = orders + others[:max(arguments.mutants - len(orders), 0)]
    rng.shuffle(head)
    return mutants, head[:arguments.mutants]


def summary(results):
    total, killed = {}, {}
    for line in results:
        kind, verdict = line.split("\t")[0], line.split("\t")[3]
        if verdict in ("equivalent", "stillborn"):
            continue
        total[kind] = total.get(kind, 0) + 1
        killed[kind] = killed.get(kind, 0) + verdict.startswith("killed")
    for kind in sorted(total):
        print(f"{kind}: {killed[kind]} of {total[kind]} killed ({100 * killed[kind] / total[kind]:.1f} %)")
    if total:
        print(f"all: {sum(killed.values())} of {sum(total.values())} killed "
              f"({100 * sum(killed.values()) / sum(total.values()):.1f} %)")
    for line in results:
        if line.split("\t")[3] == "survived":
            print("survivor: " + line.rstrip("\n"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="condition,comparison,order,statement")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=int, default=10 ** 9, help="begin no mutant after so many")
    parser.add_argument("--trust", action="store_true", help="do not run the tests without a mutation first")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    mutants, chosen = choose(arguments)
    print(f"{len(mutants)} mutants in {len(FILES)} files, {len(chosen)} chosen", flush=True)
    if arguments.list:
        for m in chosen:
            print(*m, sep="\t")
        return
    results = Path("mutate-results")
    done = results.read_text().splitlines() if results.exists() else []
    known = {tuple(line.split("\t")[i] for i in (0, 1, 2, 4)) for line in done}
    begun = time.time()
    copy_tree()
    prepare(PLAIN, ["CFLAGS=-O1 -g0", "LDFLAGS=-Wl,--build-id=none"])
    prepare(TSAN, ["CC=clang", "CXX=clang++", "--enable-sanitizer=thread", "CFLAGS=-O1 -g0"])
    if not arguments.trust:
        baseline()
    base = library_hash()
    for kind, name, number, old, new in chosen:
        if time.time() - begun > arguments.seconds:
            break
        if (kind, name, str(number), new.strip()) in known:
            continue
        path = TREE / "src/lib" / name
        text = path.read_text()
        lines = text.split("\n")
        lines[number - 1] = new.replace("__atomic_exchange_n_relaxed(", "hk_exchange_release(" if "acquire(" in old else "hk_exchange_acquire(")
        path.write_text("\n".join(lines))
        verdict = judge(kind, name, base)
        path.write_text(text)
        line = "\t".join((kind, name, str(number), verdict, new.strip()))
        done.append(line)
        with results.open("a") as f:
            f.write(line + "\n")
        print(line, flush=True)
    run(["make", "-s", "libhakmem.la"], PLAIN, 200)
    summary(done)


main()
