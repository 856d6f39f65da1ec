#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The library exports what exports.txt lists, and nothing else; hak_* carry a version and malloc's
family none, or LD_PRELOAD would do nothing."""

import re
from pathlib import Path

from lint import LIB, SRC, Tap, compile_sample, dynamic_symbols, scratch, skip_all

LIST = Path(__file__).with_name("exports.txt")
SYMBOLS = SRC / "debian/libhakmem0.symbols"


def expected(text):
    names = set()
    for line in text.splitlines():
        names.update(line.partition("#")[0].split())
    return names


def violations(binary, names):
    found = []
    # The version node itself is an absolute symbol named like the version.
    symbols = {name: entry for name, entry in dynamic_symbols(binary).items() if entry[2] != "A"}
    found += [f"missing: {name}" for name in sorted(names - set(symbols))]
    found += [f"not in the list: {name}" for name in sorted(set(symbols) - names)]
    for name, (_, _, _, version) in sorted(symbols.items()):
        if name.startswith("hak_") and not version.startswith("HAKMEM_"):
            found.append(f"{name} has no version")
        if not name.startswith("hak_") and version:
            found.append(f"{name} has version {version}: LD_PRELOAD would not replace it")
    return found


# An operator with a size_t, up to the letter of its type: m is unsigned long.
SIZED = re.compile("^(_Zn[wa]|_Zd[la]Pv)m")


def packaged(text, names):
    """Differences between the list and Debian's symbols file, whose size_t is unsigned int where words have 32 bits."""
    found = []
    for bits, wanted in (("64", names), ("32", {SIZED.sub(r"\1j", name) for name in names})):
        entries = re.findall(r"^ (?:\(arch-bits=(\d+)\))?(?!HAKMEM_)([^@\s]+)@", text, re.MULTILINE)
        listed = {name for only, name in entries if only in ("", bits)}
        found += [f"debian symbols file, {bits} bits: {'lacks' if name in wanted else 'has'} {name}"
                  for name in sorted(listed ^ wanted)]
    return found


SAMPLE = """
void *malloc(unsigned long n) { return 0; }
void hak_x(void) {}
void helper(void) {}
"""


def main():
    if not LIB.exists():
        skip_all("no shared library was built")
    tap = Tap()
    tap.clean(violations(LIB, expected(LIST.read_text())), "exported symbols are those in exports.txt")
    if SYMBOLS.exists():
        tap.clean(packaged(SYMBOLS.read_text(), expected(LIST.read_text())), "Debian's symbols file agrees")
    tap.caught(packaged(" a@Base 1\n", {"b"}), "lacks b", "a symbol missing from the symbols file")
    tap.caught(packaged(" _Znwm@Base 1\n", {"_Znwm"}), "32 bits: lacks _Znwj", "a symbol of machines with 64 bits alone")
    with scratch() as directory:
        plain = violations(compile_sample(SAMPLE, directory), {"malloc", "free", "hak_x"})
        tap.caught(plain, "missing: free", "a symbol that is gone")
        tap.caught(plain, "not in the list: helper", "a symbol that leaks")
        tap.caught(plain, "hak_x has no version", "a hak_ symbol without a version")
        script = Path(directory) / "map"
        script.write_text("HAKMEM_9 { global: *; };\n")
        versioned = compile_sample(SAMPLE, directory, f"-Wl,--version-script={script}")
        tap.caught(violations(versioned, {"malloc"}), "malloc has version", "a version on malloc")
    tap.done()


main()
