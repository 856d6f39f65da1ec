#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a small program needs of the library lies in the file's first 64 KiB, which a page fault maps as one:
lib/layout.ld names the functions. After functions of a program's start came, went or changed their names:

    tests/lint/layout.py --update      (from the build directory, a build by gcc with -O2)

lists those that half of some small programs run, by callgrind, and writes lib/layout.ld; then make, and once more
until the list stays. A static function whose name others have too is listed with its file."""

import bisect
import collections
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lint import BUILD, LIB, SRC, Tap, is_x86_64, run, scratch, skip_all, sources, tool

SCRIPT = SRC / "lib/layout.ld"
WINDOW = 0x10000
TABLE_BYTES = 1024  # of hk_class_offset: requests up to 8 KiB
READELF = tool("READELF", "readelf")
VALGRIND = tool("VALGRIND", "valgrind")
STATUS = BUILD / "config.status"
HAS_LAYOUT = STATUS.exists() and 'S["HAVE_LAYOUT_TRUE"]=""' in STATUS.read_text()
ROUNDS = 5  # of each program: what is sampled differs
LIST_HEAD, LIST_END = "    /* functions: made by --update */\n", "    /* end */\n"

HELLO = """
#include <stdio.h>
#include <stdlib.h>
int main(void) { char *p = malloc(100); p = realloc(p, 300); free(p); puts("hello"); return 0; }
"""
START_FILES = {"_init", "_fini", "__do_global_dtors_aux", "frame_dummy", "register_tm_clones", "deregister_tm_clones",
               "pthread_atfork"}  # and of libc_nonshared.a: all of those lie in the first window
SMALL = [["true"], ["ls", "/"], ["cat", "/etc/passwd"], ["sed", "s/a/b/", "/etc/passwd"],
         ["awk", "{ n += length($1) } END { print n }", "/etc/passwd"], ["sh", "-c", ":"], ["perl", "-e", "1"]]


def plain(name):
    """A function's name without what gcc appends to those of its clones."""
    return re.sub(r"(\.(isra|constprop|part|lto_priv|cold|\d+)(\.\d+)*)+$", "", name)


class Function:
    def __init__(self, name, file, start, size):
        self.name, self.file, self.start, self.end = name, file, start, start + size
        self.plain = plain(name)
        self.cold = ".cold" in name

    def __str__(self):
        return f"{self.name} ({self.file or 'global'}) at {self.start:#x}, {self.end - self.start} bytes"


def symbols(binary):
    """The functions, in the order of their addresses, and the objects [(name, address, size)]. A local symbol follows its file's."""
    functions, objects, file = [], [], ""
    for line in run([*READELF, "-sW", binary]).split("'.symtab'")[-1].splitlines():
        fields = line.split()
        if fields[3:4] == ["FILE"]:
            file = Path(fields[7]).stem if len(fields) > 7 else ""  # none: those that were global before
        elif len(fields) == 8 and fields[3] == "FUNC" and fields[6] != "UND":
            local = file if fields[4] == "LOCAL" else ""
            functions.append(Function(fields[7], local, int(fields[1], 16), int(fields[2], 0)))
        elif len(fields) == 8 and fields[3] == "OBJECT":
            objects.append((fields[7], int(fields[1], 16), int(fields[2], 0)))
    return sorted(functions, key=lambda f: f.start), objects


def listed(text):
    """[(file or "", function)] of a layout script."""
    text = text.partition(LIST_HEAD)[2].partition(LIST_END)[0]
    return [(m[1] or "", m[2]) for m in re.finditer(r"\*(?:-(\w+)\.o)?\(\.text\.(\w+) \.text\.\2\.\*", text)]


def of_list(functions, file, name):
    return [f for f in functions if f.plain == name and not f.cold and (not file or f.file == file)]


def outside(functions, names):
    """Functions of the list that do not lie in the first window."""
    return [f"outside: {f}" for file, name in names for f in of_list(functions, file, name) if f.end > WINDOW]


def missing(functions, names):
    """Names that no function has, where they are more than a tenth."""
    gone = [f"missing: {name}" for file, name in names if not of_list(functions, file, name)]
    return gone if len(gone) * 10 > len(names) else []


def start_constants():
    """What the source calls HK_START_CONST."""
    pattern = r"HK_START_CONST const [^=;]*?(\w+)\["
    return {m for path in sources(SRC / "lib", ".c") for m in re.findall(pattern, path.read_text())}


def constants_outside(objects, names):
    """Constants of a start, and the first page of the large table, that do not lie in the first window."""
    found = [f"outside: {name}: {at:#x}, {size} bytes" for name, at, size in objects
             if plain(name) in names and at + size > WINDOW]
    found += [f"outside: hk_class_offset begins at {at:#x}" for name, at, _ in objects
              if name == "hk_class_offset" and at + TABLE_BYTES > WINDOW]
    return found


def executed(command, functions):
    """The library's functions that a command runs."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HAKMEM_", "CK_"))}
    env["LD_PRELOAD"] = str(LIB.resolve())
    with scratch() as directory:
        out = Path(directory) / "out"
        log = Path(directory) / "log"
        with open(log, "w", encoding="ascii", errors="replace") as both:
            done = subprocess.run([*VALGRIND, "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no",
                                   "--compress-strings=no", f"--callgrind-out-file={out}", *command],
                                  env=env, stdout=both, stderr=both, check=False)
        if "debuginfo reader" in log.read_text(errors="replace"):
            raise SystemExit("Bail out! this valgrind cannot read the debug information; build with -gdwarf-4")
        if done.returncode != 0:
            raise SystemExit(f"Bail out! {command}: status {done.returncode}")
        return at_addresses(functions, addresses_run(out.read_text(errors="replace")))


def addresses_run(profile):
    """The library's addresses in callgrind's output."""
    ours, addresses = False, set()
    for line in profile.splitlines():
        if line.startswith("ob="):
            ours = line[3:] == str(LIB.resolve())
        elif ours and line.startswith("0x"):
            addresses.add(int(line.split()[0], 16))
    return addresses


def at_addresses(functions, addresses):
    """The functions with one of the addresses, by all their names: which one the section has, nobody tells."""
    starts = [f.start for f in functions]
    found = set()
    for address in addresses:
        start = starts[max(bisect.bisect(starts, address) - 1, 0)]
        same = functions[bisect.bisect_left(starts, start):bisect.bisect(starts, start)]
        found.update(f for f in same if address < f.end)
    return found


def pattern(f, functions):
    """A line of the script. Cold functions lie in a section of their own, and so do cold parts, which stay there."""
    shared = len({g.file for g in functions if g.plain == f.plain}) > 1
    section = f".text.{f.plain}"
    cold = any(g.plain == f.plain and g.cold for g in functions)
    more = "" if cold else f" .text.unlikely.{f.plain}"
    return f"    *{f'-{f.file}.o' if shared and f.file else ''}({section} {section}.*{more})\n"


def small_programs(directory):
    hello = Path(directory) / "hello"
    run([*tool("CC", "cc"), "-fno-builtin", "-o", hello, "-xc", "-"], input=HELLO)
    return [[str(hello)]] + [command for command in SMALL if shutil.which(command[0])]


def update():
    functions, _ = symbols(LIB)
    times = collections.Counter()
    with scratch() as directory:
        programs = small_programs(directory)
        for command in programs:
            seen = set().union(*(executed(command, functions) for _ in range(ROUNDS)))
            times.update(f for f in seen if not f.cold and f.name not in START_FILES)
    lines = sorted({pattern(f, functions) for f, n in times.items() if 2 * n >= len(programs)})
    head, _, rest = SCRIPT.read_text().partition(LIST_HEAD)
    old, _, tail = rest.partition(LIST_END)
    SCRIPT.write_text(head + LIST_HEAD + "".join(lines) + LIST_END + tail)
    print(f"{len(lines)} functions that half of {len(programs)} programs run; "
          f"{len(set(lines) - set(old.splitlines(True)))} new, {len(set(old.splitlines(True)) - set(lines))} gone")


def strict():
    """May names be missing, or too large? Only gcc with -O2 makes the functions that were listed."""
    flags = os.environ.get("HK_CFLAGS_BASE", "-O2")
    level = re.findall(r"-O(\S*)", flags)
    return "clang" not in run([*tool("CC", "cc"), "--version"]).splitlines()[0] and level[-1:] == ["2"] \
        and "#define HK_DEBUG 1" not in (BUILD / "config.h").read_text() \
        and not re.search(r"-fsanitize|-flto|--coverage|-fprofile|-finstrument|-fstack-protector|-march|-mtune|-fcf-protection", flags)


def main():
    if not HAS_LAYOUT or READELF is None or not LIB.exists() or not is_x86_64(LIB):
        skip_all("the library was built without a layout (configure.ac), or there is no readelf")
    if not strict():
        skip_all("the list is of what gcc makes with -O2")
    if "--update" in sys.argv:
        update()
        return
    tap = Tap()
    functions, objects = symbols(LIB)
    names = listed(SCRIPT.read_text())
    tap.ok(len(names) > 100, "the list was read", [f"{len(names)} names"])
    tap.clean(outside(functions, names), "functions of a start are in the first 64 KiB")
    tap.clean(missing(functions, names), "at least nine tenths of the list exist")
    constants = start_constants()
    tap.ok(len(constants) > 5, "names of constants were read", sorted(constants))
    tap.clean(constants_outside(objects, constants), "constants of a start are in the first 64 KiB")
    tap.comment(f"{len(names)} names, {sum(not of_list(functions, *n) for n in names)} of them missing")
    if VALGRIND is not None:
        runs = executed(["true"], functions)
        tap.ok(len(runs) > 50, "functions that `true` runs were found", [f"{len(runs)} functions"])
        tap.clean([f"outside: {f}" for f in runs if f.end > WINDOW], "`true` runs nothing outside")
    else:
        tap.skip("`true` runs nothing outside", "no valgrind")
    last = [("", f.plain) for f in functions if not f.cold][-1:]
    tap.caught(outside(functions, last), "outside", "a function that lies elsewhere")
    tap.caught(missing(functions, [*names[:20], *[("", f"gone_{i}") for i in range(5)]]), "gone_4", "names of no function")
    tap.caught(constants_outside([("hk_class_offset", WINDOW - TABLE_BYTES + 1, 8192)], []), "hk_class_offset", "a table elsewhere")
    tap.caught(constants_outside([("hk_config_words", WINDOW - 7, 8)], constants), "hk_config_words", "a constant elsewhere")
    tap.done()


main()
