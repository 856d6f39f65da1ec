#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mutation testing: changes one thing in the library (mutants.py), builds it in a tree of its own (tree.py, mutate-tree/)
and runs the tests that reach the line, the quickest first, until one fails. A mutant that no test notices is a survivor:
the tests do not hold that line. A test that fails is run once more, and where it may have failed for want of a processor,
the library as it is must pass it then: only then has it killed. Else the mutant is undecided, and judged again later.

A mutant whose objects are the same to the byte is no mutant (equivalent), one that does not compile neither; neither
counts. mutate-results holds a line a mutant and is continued by the next call. What the seed draws stays drawn when
the source changes, but for the lines that changed. --known names such a file: what it holds is neither drawn nor judged.

usage: mutate.py [--mutants N] [--seed N] [--kinds LIST] [--only FILE-PART] [--seconds N] [--again VERDICT] [--longest SECONDS]
       [--known FILE] [--all-tests] [--list]
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from mutants import all_mutants
from tree import CLEAN, COPY, PLAIN, TEST_ENVIRONMENT, TSAN, TSAN_TESTS, MUTANT, Limits, Tree, must, watch


def fails(command, cwd, env, limits):
    """How a test fails twice, or "". What takes too much processor time is not tried again."""
    verdict = watch(command, cwd, env, limits)[0]
    if verdict in ("failed", "stuck", "late"):
        verdict = watch(command, cwd, env, limits)[0]
    return "" if verdict == "passed" else verdict


def kills(tree, stage):
    """How a stage fails with the mutant; "" if not; "late" where the library as it is does no better just now."""
    limits = Limits(cpu=20 + 10 * stage.cpu)
    how = fails(stage.command, PLAIN, stage.env, limits)
    if how in ("", "late") or how == "failed" and stage.unit:
        return how
    if not tree.is_linked(stage, CLEAN):
        sys.exit("the library as it is does not link")
    return how if watch(*stage.on(CLEAN), limits)[0] == "passed" else "late"


def judge_order():
    """The labels' lint reads the source; what it lets through goes to the thread sanitizer."""
    env = {"HK_SRCDIR": str(COPY)}
    if fails([sys.executable, "tests/lint/labels.py"], COPY, env, Limits()) == "failed":
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


def judge(tree, mutant, arguments):
    """What killed it, "survived", "undecided", "equivalent" or "stillborn"."""
    if mutant.kind == "order":
        verdict = judge_order()
        if verdict:
            return verdict
    differ = tree.build(mutant.file)
    if differ is None:
        return "stillborn"
    if not differ: # a machine may order more than it is asked to
        return "survived" if mutant.kind == "order" else "equivalent"
    stages = sorted(tree.stages, key=lambda s: s.cpu) if arguments.all_tests else tree.who_reaches(mutant.file, mutant.number)
    stages = [s for s in stages if s.cpu <= arguments.longest]
    late = []
    for stage in stages:
        if not tree.is_linked(stage, MUTANT):
            return "stillborn"
        how = kills(tree, stage)
        if how == "late":
            late.append(stage.label)
        elif how:
            return f"killed by {stage.label}" + (f" ({how})" if how != "failed" else "")
    if late:
        return f"undecided: no time for {', '.join(late)}"
    return "survived" if stages else "survived (no test reaches it)"


def choose(arguments):
    """All orders, for there are few, then what the seed draws."""
    mutants = [m for m in all_mutants() if m.kind in arguments.kinds.split(",") and arguments.only in m.file]
    known = {name_of(d) for d in read(arguments.known)} if arguments.known else set()
    fresh = sorted((m for m in mutants if m.name() not in known), key=lambda m: (m.kind != "order", m.rank(arguments.seed)))
    return mutants, sorted(fresh[:arguments.mutants], key=lambda m: m.rank(arguments.seed))


# A line of results: kind, file, line, verdict, function, the line as it is, what it becomes.


def read(path):
    return [line.split("\t") for line in Path(path).read_text().splitlines() if not line.startswith("#")]


def name_of(done):
    return (done[0], done[1], *done[4:7])


class Applied:
    """A mutant in the copy of the source, while the block lasts."""

    def __init__(self, mutant):
        self.path, self.mutant = COPY / "lib" / mutant.file, mutant

    def __enter__(self):
        self.text, old, new = self.path.read_text(), self.mutant.old, self.mutant.new
        lines = self.text.split("\n")
        assert lines[self.mutant.number - 1] == old
        half = "hk_exchange_release(" if "acquire(" in old else "hk_exchange_acquire("
        lines[self.mutant.number - 1] = new.replace("__atomic_exchange_n_relaxed(", half)
        self.path.write_text("\n".join(lines))

    def __exit__(self, *_):
        self.path.write_text(self.text)


def summary(results):
    total, killed, who = {}, {}, {}
    for kind, _, _, verdict, *_ in results:
        if verdict in ("equivalent", "stillborn") or verdict.startswith("undecided"):
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
    parser.add_argument("--known", default="", help="a file of results: not these")
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
    done = read(results) if results.exists() else []
    again = ("undecided", arguments.again) if arguments.again else "undecided"
    if any(d[3].startswith(again) for d in done):
        done = [d for d in done if not d[3].startswith(again)]
        results.write_text("".join("\t".join(d) + "\n" for d in done))
    drawn = {m.name() for m in chosen}
    done = [d for d in done if name_of(d) in drawn]
    judged = {name_of(d) for d in done}
    chosen = [m for m in chosen if m.name() not in judged]
    print(f"{len(mutants)} mutants, {len(done)} judged, {len(chosen)} left", flush=True)
    tree = Tree()
    tree.count()
    for mutant in chosen:
        if told or time.monotonic() - begun > arguments.seconds:
            break
        start = time.monotonic()
        with Applied(mutant):
            verdict = judge(tree, mutant, arguments)
        done.append([mutant.kind, mutant.file, str(mutant.number), verdict, mutant.where, mutant.old.strip(), mutant.new.strip()])
        with results.open("a") as f:
            f.write("\t".join(done[-1]) + "\n")
        print(f"{time.monotonic() - start:.1f} s\t" + "\t".join(done[-1]), flush=True)
    summary(done)


main()
