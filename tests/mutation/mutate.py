#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mutation testing: changes one thing in the library (mutants.py), builds it in a tree of its own (tree.py, mutate-tree/)
and runs the tests that reach the line, the quickest first, until one fails. A mutant that no test notices is a survivor:
the tests do not hold that line. A test that fails is run once more, and only then has killed.

A mutant whose objects are the same to the byte is no mutant (equivalent), one that does not compile neither; neither
counts. mutate-results holds a line a mutant and is continued by the next call with the same seed.

usage: mutate.py [--mutants N] [--seed N] [--kinds LIST] [--only FILE-PART] [--seconds N] [--again VERDICT] [--longest SECONDS]
       [--all-tests] [--list]
"""

import argparse
import random
import signal
import sys
import time
from pathlib import Path

from mutants import all_mutants
from tree import COPY, PLAIN, TEST_ENVIRONMENT, TSAN, TSAN_TESTS, MUTANT, Limits, Tree, must, watch


def fails(command, cwd, env, limits):
    """How a test fails twice, or "". What takes too long is not tried again: it takes too long."""
    verdict = watch(command, cwd, env, limits)[0]
    if verdict == "failed" and watch(command, cwd, env, limits)[0] == "passed":
        return ""
    return "" if verdict == "passed" else verdict


def judge_order():
    """The labels' lint reads the source; what it lets through goes to the thread sanitizer."""
    env = {"HK_SRCDIR": str(COPY)}
    if fails([sys.executable, "tests/lint/labels.py"], COPY, env, Limits()):
        return "killed by lint labels"
    if not (TSAN / "Makefile").exists():
        TSAN.mkdir(parents=True)
        must([str(COPY / "configure"), "--quiet", "--disable-static", "CC=clang", "CXX=clang++", "--enable-sanitizer=thread",
              "CFLAGS=-O1 -g0"], TSAN)
    for unit in TSAN_TESTS:
        program = f"tests/unit/test_{unit}"
        must(["make", "-s", "-j2", program], TSAN)
        if fails(["setarch", "-R", f"./{program}"], TSAN, TEST_ENVIRONMENT, Limits(cpu=300, wall=600)) == "failed":
            return f"killed by tsan {unit}"
    return ""


def judge(tree, kind, name, number, arguments):
    """What killed it, "survived", "equivalent" or "stillborn"."""
    if kind == "order":
        verdict = judge_order()
        if verdict:
            return verdict
    differ = tree.build(name)
    if differ is None or differ and not tree.link_library(MUTANT):
        return "stillborn"
    if not differ: # a machine may order more than it is asked to
        return "survived" if kind == "order" else "equivalent"
    stages = sorted(tree.stages, key=lambda s: s.cpu) if arguments.all_tests else tree.who_reaches(name, number)
    stages = [s for s in stages if s.cpu <= arguments.longest]
    for stage in stages:
        if stage.unit and not tree.link_unit(stage.unit, MUTANT):
            return "stillborn"
        how = fails(stage.command, PLAIN, stage.env, Limits(cpu=20 + 10 * stage.cpu))
        if how:
            return f"killed by {stage.label}" + (f" ({how})" if how != "failed" else "")
    return "survived" if stages else "survived (no test reaches it)"


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
    total, killed, who = {}, {}, {}
    for kind, _, _, verdict, _ in results:
        if verdict in ("equivalent", "stillborn"):
            who[verdict] = who.get(verdict, 0) + 1
            continue
        for k in (kind, "all"):
            total[k] = total.get(k, 0) + 1
            killed[k] = killed.get(k, 0) + verdict.startswith("killed")
        who[verdict] = who.get(verdict, 0) + 1
    for kind in total:
        print(f"{kind}: {killed[kind]} of {total[kind]} killed ({100 * killed[kind] / total[kind]:.1f} %)")
    for verdict, n in sorted(who.items(), key=lambda w: -w[1]):
        print(f"{n:4} {verdict}")
    for line in results:
        if line[3].startswith("survived"):
            print("survivor: " + "\t".join(line))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="condition,comparison,order,statement")
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=int, default=10 ** 9, help="begin no mutant after so many")
    parser.add_argument("--again", default="", help="forget the verdicts that begin so, and judge those mutants anew")
    parser.add_argument("--longest", type=float, default=1e9, help="only tests of so many seconds of processor time; then the "
                        "survivors --again without")
    parser.add_argument("--all-tests", action="store_true", help="those too that do not reach the line")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    begun, told = time.monotonic(), []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1)) # ends after the mutant at hand
    mutants, chosen = choose(arguments)
    if arguments.list:
        for m in chosen:
            print(*m, sep="\t")
        return
    results = Path("mutate-results")
    done = [line.split("\t") for line in results.read_text().splitlines()] if results.exists() else []
    if arguments.again:
        done = [d for d in done if not d[3].startswith(arguments.again)]
        results.write_text("".join("\t".join(d) + "\n" for d in done))
    drawn = {(m[0], m[1], str(m[2]), m[4].strip()) for m in chosen}
    done = [d for d in done if (d[0], d[1], d[2], d[4]) in drawn]
    known = {(d[0], d[1], d[2], d[4]) for d in done}
    chosen = [m for m in chosen if (m[0], m[1], str(m[2]), m[4].strip()) not in known]
    print(f"{len(mutants)} mutants, {len(done)} judged, {len(chosen)} left", flush=True)
    tree = Tree()
    tree.count()
    for kind, name, number, old, new in chosen:
        if told or time.monotonic() - begun > arguments.seconds:
            break
        path = COPY / "lib" / name
        text = path.read_text()
        lines = text.split("\n")
        assert lines[number - 1] == old
        lines[number - 1] = new.replace("__atomic_exchange_n_relaxed(", "hk_exchange_release(" if "acquire(" in old else "hk_exchange_acquire(")
        path.write_text("\n".join(lines))
        start = time.monotonic()
        try:
            verdict = judge(tree, kind, name, number, arguments)
        finally:
            path.write_text(text)
        done.append([kind, name, str(number), verdict, new.strip()])
        with results.open("a") as f:
            f.write("\t".join(done[-1]) + "\n")
        print(f"{time.monotonic() - start:.1f} s\t" + "\t".join(done[-1]), flush=True)
    summary(done)


main()
