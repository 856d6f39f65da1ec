#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The include law: a box includes strictly downward; private headers stay at home; inline headers go
to ace, thread and entry; only lib/os talks to the kernel about memory."""

import re

from lint import SRC, Tap, scratch, sources, strip_comments, write_tree

# Bottom-up. A box may include boxes of earlier rows only, and itself.
LAW = [
    ["base"],
    ["sync"],
    ["os"],
    ["meta"],
    ["config", "size"],
    ["stats", "policy", "share"],
    ["pagemap", "batch", "elo", "ucb1", "p2"],
    ["span", "arena"],
    ["slab"],
    ["tiny", "pool", "l25", "bigcache", "guard"],
    ["heap"],
    ["evo"],
    ["ace", "site", "acectl"],
    ["thread", "secure"],
    ["export"],
    ["entry"],
]
LEVEL = {box: level for level, row in enumerate(LAW) for box in row}

# Learners read stats and write policy; boxes never call them.
CONTROL = {"site", "elo", "ucb1", "p2", "evo", "acectl"}
CONTROL_READS = CONTROL | {"base", "sync", "os", "config", "size", "stats", "policy"}
CONTROL_READERS = CONTROL | {"export", "entry"}

INLINE_READERS = {"ace", "secure", "thread", "entry"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.M)


def check_include(own, quote, target):
    """Why the box `own` may not include `target`, or None."""
    if target.endswith(".c"):
        return "includes a .c file"
    if target == "sys/mman.h":
        return None if own == "os" else "<sys/mman.h> outside lib/os"
    box, slash, name = target.partition("/")
    if quote == "<":
        return "a box is included with quotes" if box in LEVEL else None
    if target == "config.h":
        return None if own == "base" else "config.h comes through base/base.h"
    if not slash:
        return f'write "{own}/{target}"'
    if box not in LEVEL:
        return f"box {box} has no level in the law"
    if box == own:
        return None
    if name.endswith("_private.h"):
        return "private header of another box"
    if name.endswith("_inline.h") and own not in INLINE_READERS:
        return "inline header of another box"
    if LEVEL[box] >= LEVEL[own]:
        return "sideways" if LEVEL[box] == LEVEL[own] else "upward"
    if box in CONTROL and own not in CONTROL_READERS:
        return "a box calls the control plane"
    if own in CONTROL and box not in CONTROL_READS:
        return "the control plane reads stats and writes policy, nothing else"
    return None


def violations(root):
    found = []
    for path in sources(root / "lib", ".c", ".h", ".def"):
        relative = path.relative_to(root)
        own = relative.parts[1]
        if own not in LEVEL:
            found.append(f"{relative}: box {own} has no level in the law")
            continue
        text = strip_comments(path.read_text())
        for match in INCLUDE.finditer(text):
            reason = check_include(own, *match.groups())
            if reason:
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{relative}:{line}: {match.group(2)}: {reason}")
    for path in sources(root / "tools", ".c", ".h"):
        for match in INCLUDE.finditer(strip_comments(path.read_text())):
            if match.group(2).split("/")[0] in LEVEL:
                found.append(f"{path.relative_to(root)}: {match.group(2)}: tools see public headers")
    return found


BAD = {
    "lib/size/upward.h": '#include "tiny/tiny.h"\n',
    "lib/tiny/sideways.c": '#include "pool/pool.h"\n',
    "lib/ace/private.c": '#include "tiny/tiny_private.h"\n',
    "lib/slab/inline.c": '#include "span/span_inline.h"\n',
    "lib/tiny/learner.c": '#include "elo/elo.h"\n',
    "lib/evo/data.c": '#include "tiny/tiny.h"\n',
    "lib/nobody/what.c": "\n",
    "lib/tiny/kernel.c": "#include <sys/mman.h>\n",
    "lib/tiny/local.c": '  #  include "tiny.h"\n',
    "lib/tiny/body.c": '#include "tiny/tiny_remote.c"\n',
    "tools/tool.c": '#include "base/base.h"\n',
}
EXPECTED = {
    "upward.h": "upward", "sideways.c": "sideways", "private.c": "private header",
    "inline.c": "inline header", "learner.c": "control plane", "data.c": "nothing else",
    "what.c": "no level", "kernel.c": "outside lib/os", "local.c": "write", "body.c": r"\.c file",
    "tool.c": "public headers",
}
GOOD = {
    "lib/entry/entry.c": '/* #include "x.c" */\n#include "tiny/tiny_inline.h"\n#include <errno.h>\n',
    "lib/tiny/tiny.c": '#include "tiny/tiny_private.h"\n#include "slab/slab.h"\n',
}


def main():
    tap = Tap()
    tap.clean(violations(SRC), "every include obeys the law")
    with scratch() as directory:
        found = violations(write_tree(directory, BAD))
        for name, reason in EXPECTED.items():
            tap.caught(found, f"{re.escape(name)}.*{reason}", f"{name} ({reason})")
    with scratch() as directory:
        tap.clean(violations(write_tree(directory, GOOD)), "what the law allows is not reported")
    tap.done()


main()
