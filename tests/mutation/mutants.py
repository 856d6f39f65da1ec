# SPDX-License-Identifier: MIT
"""What can be changed, a line at a time:

  condition    if (X) becomes if (!(X))
  comparison   < <= > >= == != && || become their neighbours
  order        acquire and release become relaxed
  statement    a call or an assignment is removed
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

SRC = Path(os.environ.get("HK_SRCDIR", ".")).resolve()

# Where a pointer is judged and where blocks and snapshots change hands: all kinds of mutants.
CHECKS = """ace/ace.c ace/ace_big.c ace/ace_loan.c entry/malloc.c heap/heap_inline.h heap/heap_remote.c l25/l25_inline.h
guard/guard.c pagemap/pagemap.c pagemap/pagemap.h policy/policy.c secure/closed.c secure/quarantine.c secure/secure.c
secure/trailer.c slab/slab.c sync/lock.c""".split()
# Memory orders alone: the rest decides how much is cached, and when it goes, where another number is no fault.
ORDERS = """arena/arena.c batch/batch.c bigcache/bigcache.c heap/heap.c heap/heap_check.c heap/heap_park.c l25/l25.c meta/meta.c span/span.c
thread/thread.c""".split()
FILES = CHECKS + ORDERS
# Such decisions in the files of the first list.
DECISIONS = re.compile(r"tick|trim|purge|cache|budget|resident|watch|background|bytes|obey|limit|timed|set_live|counter|"
                       r"good_size|perturb|option|mallopt|tell_sites|site|fill_")
# What a box says of its own invariants is a test, which the library never calls.
OWN_TEST = re.compile(r"^hk_\w+_check$")
FUNCTION = re.compile(r"^(?!#|typedef|extern|_Static)[A-Za-z_].*?\b(\w+)\((?!.*;$)")

CONDITION = re.compile(r"\b(?:if|while) \(")
COMPARISON = {" < ": " <= ", " <= ": " < ", " > ": " >= ", " >= ": " > ", " == ": " != ", " != ": " == ",
              " && ": " || ", " || ": " && "}
ORDER = re.compile(r"\bhk_(load|store|exchange|sub|cas)_(acquire|release|acq_rel)\(")
STATEMENT = re.compile(r"^\s+(?!return|goto|break|continue|case|else|static|struct|const|size_t|unsigned|int|bool|u?int\d+_t|"
                       r"void|char|enum|if|for|while|do|switch|typedef|extern)[\w>.\[\]*()&-]+( [-+|&]?= .*|\(.*\));$")


class Mutant(NamedTuple):
    kind: str
    file: str                   # under lib/
    number: int                 # of the line
    where: str                  # the function, and #2, #3 .. of what is alike in it
    old: str
    new: str

    def name(self):
        """The same after lines above have come or gone."""
        return (self.kind, self.file, self.where, self.old.strip(), self.new.strip())

    def rank(self, seed):
        """Its place in the order that a seed makes: one more mutant in the source leaves the others' order as it was."""
        return hashlib.sha256("\t".join((str(seed), *self.name())).encode()).hexdigest()


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
    found, alike = [], {}
    for name in FILES:
        inside, function = False, ""
        for number, line in enumerate((SRC / "lib" / name).read_text().split("\n"), 1):
            code, inside = code_of(line, inside)
            seen = set()
            match = FUNCTION.match(code)
            function = match[1] if match else function
            for kind, new in mutants_of_line(line, code):
                if kind != "order" and (name in ORDERS or DECISIONS.search(function) or OWN_TEST.match(function)):
                    continue
                if new != line and new not in seen:
                    seen.add(new)
                    same = (kind, name, function, line.strip(), new.strip())
                    alike[same] = alike.get(same, 0) + 1
                    where = function + (f"#{alike[same]}" if alike[same] > 1 else "")
                    found.append(Mutant(kind, name, number, where, line, new))
    return found
