#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tree itself: every source, test and script is listed in a Makefile.inc (a test that is not
built tests nothing, a file that is not listed is missing from the tarball), files stay short enough
to read, and each says its licence."""

import os
import re
from pathlib import Path

from lint import SRC, Tap, scratch, write_tree

MAX_LINES = 900
REASON = re.compile(r"over 900 lines(:| because)", re.I)
LISTED_DIRS = ("lib", "include", "tests", "tools", "man")
LISTED_SUFFIXES = {".c", ".h", ".cc", ".cpp", ".def", ".sh", ".py", ".golden", ".txt", ".supp"}
SPDX_SUFFIXES = {".c", ".h", ".cc", ".cpp", ".def", ".sh", ".py", ".inc", ".am", ".ac", ".m4"}
# Made by autoreconf, and by configure in the source tree.
GENERATED = re.compile(r"^(aclocal\.m4|config\.h|m4/libtool\.m4|m4/lt.*\.m4|"
                       r"build-aux/(ltmain|tap-driver|install-sh|test-driver)\S*)$")
NOT_OURS = {".git", "autom4te.cache", "__pycache__", "debian", "_inst", ".libs", ".deps"}


def files(root):
    """Files of the tree without builds, which are known by their config.status."""
    for directory, below, names in os.walk(root):
        here = Path(directory)
        below[:] = sorted(d for d in below
                          if d not in NOT_OURS and not (here / d / "config.status").exists()
                          and not (here == root and d.startswith("build-check")))
        for name in sorted(names):
            relative = str((here / name).relative_to(root))
            if not GENERATED.match(relative):
                yield here / name, relative


def listed(root):
    """The words of all makefile fragments, with $(srcdir)-like prefixes removed."""
    words = set()
    for path in [root / "Makefile.am", *root.glob("*/**/Makefile.inc")]:
        if path.is_file():
            text = re.sub(r"#.*", "", path.read_text())
            words.update(re.sub(r"^\$\(\w+\)/", "", w) for w in re.split(r"[\s=:]+", text))
    return words


def unlisted(root):
    words = listed(root)
    found = []
    for path, name in files(root):
        if not name.startswith(tuple(d + "/" for d in LISTED_DIRS)):
            continue
        if path.suffix not in LISTED_SUFFIXES:
            continue
        # A program without _SOURCES is made from its own name + .c, written as the program.
        if name not in words and not (path.suffix == ".c" and name[:-2] in words):
            found.append(f"{name} is in no Makefile.inc")
    return found


def includes(root):
    """A Makefile.inc that the Makefile does not include."""
    words = listed(root)
    return [f"{name} is not included by Makefile.am" for path, name in files(root)
            if path.name == "Makefile.inc" and name not in words]


def too_long(root):
    found = []
    for path, name in files(root):
        if path.suffix not in (".c", ".h", ".cc", ".py"):
            continue
        text = path.read_text(errors="replace")
        lines = text.count("\n")
        if lines > MAX_LINES and not REASON.search(text[:8000]):
            found.append(f"{name}: {lines} lines, and no comment near its top that says "
                         f'"Over {MAX_LINES} lines because ..."')
    return found


def unlicensed(root):
    return [f"{name} has no SPDX-License-Identifier near its top" for path, name in files(root)
            if path.suffix in SPDX_SUFFIXES
            and "SPDX-License-Identifier: MIT" not in path.read_text(errors="replace")[:600]]


def half_merged(root):
    return [f"{name}:{n}: {line}" for path, name in files(root)
            for n, line in enumerate(path.read_text(errors="replace").split("\n"), 1)
            if re.match(r"(<{7} \S|>{7} \S|={7}$)", line)]


BAD = {
    "Makefile.am": "include tests/unit/Makefile.inc\n",
    "tests/unit/Makefile.inc": "# tests/unit/test_c\nUNIT_TESTS += tests/unit/test_a\n"
                               "EXTRA_DIST += $(srcdir)/tests/unit/d.sh\n",
    "tests/unit/test_a.c": "// SPDX-License-Identifier: MIT\n",
    "tests/unit/test_b.c": "",
    "tests/unit/test_c.c": "",
    "tests/unit/d.sh": "",
    "tests/other/Makefile.inc": "",
    "lib/x/long.c": "\n" * 901,
    "NEWS": "Title\n========\n" + "<" * 7 + " HEAD\nours\n" + "=" * 7 + "\ntheirs\n",
    "lib/x/excused.c": "/* Over 900 lines because it is a table. */\n" + "\n" * 901,
}


def main():
    tap = Tap()
    tap.clean(unlisted(SRC), "every source and test is listed in a Makefile.inc")
    tap.clean(includes(SRC), "every Makefile.inc is included")
    tap.clean(too_long(SRC), f"no file above {MAX_LINES} lines without a reason")
    tap.clean(unlicensed(SRC), "every file names its licence")
    tap.clean(half_merged(SRC), "no conflict that a merge left behind")
    with scratch() as directory:
        bad = write_tree(directory, BAD)
        missing = [v.split()[0] for v in unlisted(bad)]
        tap.ok(missing == ["lib/x/excused.c", "lib/x/long.c", "tests/unit/test_b.c",
                           "tests/unit/test_c.c"], "negative control: unlisted files", missing)
        tap.caught(includes(bad), "tests/other/Makefile.inc", "a Makefile.inc that nothing includes")
        tap.ok([v.split(":")[0] for v in too_long(bad)] == ["lib/x/long.c"],
               "negative control: a long file, and one with its reason", too_long(bad))
        tap.caught(unlicensed(bad), "tests/unit/test_b.c", "a file without licence")
        tap.ok([v.split(":")[1] for v in half_merged(bad)] == ["3", "5"],
               "negative control: what a merge left behind", half_merged(bad))
        tap.ok(not any("test_a.c" in v for v in unlicensed(bad)), "a licensed file is not reported")
    tap.done()


main()
