#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The binary interface is that of tests/lint/abi-x86_64.xml: nothing exported is gone, no public type changed.

What may be added: symbols, and members at the end of MAY_GROW. After a
release, or when a change is meant (see the update rule in configure.ac), from the build directory:

    ../tests/lint/abi.py --update

Needs abidw and abidiff (Debian: abigail-tools), a little-endian 64-bit x86 library, and debugging information in it.
"""

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from lint import LIB, SRC, Tap, scratch

BASELINE = SRC / "tests/lint/abi-x86_64.xml"
# The caller passes their size, or the library alone makes them: hakmem.h and stats.h say so of each.
MAY_GROW = ["hak_site", "hak_policy", "hak_stats", "hak_stats_class", "hak_kpi"]


def describe():
    """The library's interface as XML, without the place where it was built."""
    text = subprocess.run(["abidw", "--headers-dir", SRC / "include", "--drop-private-types", "--exported-interfaces-only",
                           "--no-show-locs", "--no-corpus-path", "--no-comp-dir-path", "--no-elf-needed",
                           "--type-id-style", "hash", LIB],
                          check=True, capture_output=True, text=True).stdout
    return re.sub(r" path='[^']*/(lib/[^']*)'", r" path='\1'", text)


def without_growth(description, baseline):
    """The versioned structs without the members that the baseline's have not yet."""
    for name in MAY_GROW:
        now, before = struct(description, name), struct(baseline, name)
        for member in now.findall("data-member")[len(before.findall("data-member")):]:
            now.remove(member)
            now.set("size-in-bits", before.get("size-in-bits"))
    return description


def changes(baseline):
    """What abidiff has to say, by lines; additions are none of it."""
    with scratch() as directory:
        library = Path(directory) / "library.xml"
        ET.ElementTree(without_growth(ET.fromstring(describe()), ET.parse(baseline).getroot())).write(library)
        run = subprocess.run(["abidiff", "--no-added-syms", baseline, library], capture_output=True, text=True)
    return [f"abidiff ends with {run.returncode}", *run.stdout.split("\n"), *run.stderr.split("\n")] \
        if run.returncode else []


def edited(directory, edit):
    """A copy of the baseline after edit(root element)."""
    tree = ET.parse(BASELINE)
    edit(tree.getroot())
    path = Path(directory) / "edited.xml"
    tree.write(path)
    return path


def struct(root, name):
    return next(c for c in root.iter("class-decl") if c.get("name") == name)


def had_another_function(root):
    symbols = root.find("elf-function-symbols")
    symbols.append(ET.Element("elf-symbol", dict(symbols[0].attrib, name="hak_gone")))


def had_a_wider_member(root):
    member = next(v for v in struct(root, "hak_site").iter("var-decl") if v.get("name") == "live_bytes")
    member.set("type-id", next(t for t in root.iter("type-decl") if t.get("name") == "int").get("id"))


def had_another_argument(root):
    function = next(f for f in root.iter("function-decl") if f.get("name") == "hak_trim")
    function.insert(0, ET.Element("parameter", function.find("parameter").attrib))


def had_one_member_less(root):
    stats = struct(root, "hak_stats")
    stats.set("size-in-bits", str(int(stats.get("size-in-bits")) - 64))
    stats.remove(stats.findall("data-member")[-1])


def had_a_shorter_root(root):
    """hak_stats_root is read by other programs, and a copy of it may lie in a program: it does not grow."""
    first = struct(root, "hak_stats_root")
    first.set("size-in-bits", str(int(first.get("size-in-bits")) - 64))
    first.remove(first.findall("data-member")[-1])


def cannot():
    if not (shutil.which("abidw") and shutil.which("abidiff")):
        return "no abigail-tools"
    header = LIB.read_bytes()[:20]
    if header[4:6] != b"\x02\x01" or header[18:20] != b"\x3e\x00":
        return "not x86-64"
    if "class-decl" not in describe():
        return "no debugging information"
    return None


def main():
    tap = Tap()
    why = cannot()
    if why:
        print(f"1..0 # SKIP {why}")
        return
    if "--update" in sys.argv:
        BASELINE.write_text(describe())
        return
    tap.clean(changes(BASELINE), "the binary interface is that of the baseline")
    with scratch() as directory:
        for edit, pattern, name in [
                (had_another_function, "hak_gone", "a function is gone"),
                (had_a_wider_member, "live_bytes", "a member changed its type"),
                (had_another_argument, "hak_trim", "a function takes fewer arguments"),
                (had_a_shorter_root, "hak_stats_root", "a struct grew that must not")]:
            tap.caught(changes(edited(directory, edit)), pattern, name)
        tap.clean(changes(edited(directory, had_one_member_less)), "a struct that is versioned by size may grow")
    tap.done()


main()
