#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The examples of the manual pages are programs: each literal block that begins with #include compiles
without a warning, links, and ends with status 0 under the library."""

import os
import re
import subprocess
from pathlib import Path

from lint import BUILD, SRC, Tap, scratch, skip_all, tool

BLOCK = re.compile(r"^\.Bd -literal[^\n]*\n(#include.*?)^\.Ed", re.M | re.S)
STRICT = ["-std=c99", "-pedantic-errors", "-Wall", "-Wextra", "-Werror"]


def examples(page):
    """C programs as a reader of the page sees them."""
    for block in BLOCK.findall(page):
        yield block.replace("\\e", "\\").replace("\\&", "").replace("\\-", "-")


def complaint(code, directory):
    """What is wrong with the program, or ''."""
    source, program = Path(directory) / "example.c", Path(directory) / "example"
    source.write_text(code)
    libs = BUILD / ".libs"
    built = subprocess.run([*tool("CC", "cc"), *STRICT, f"-I{SRC}/include", "-o", program, source,
                            f"-L{libs}", "-Wl,--no-as-needed", "-lhakmem"], capture_output=True, text=True)
    if built.returncode != 0:
        return built.stderr[:400] or "does not build"
    done = subprocess.run([program], env={**os.environ, "LD_LIBRARY_PATH": str(libs)}, timeout=20,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return "" if done.returncode == 0 else f"status {done.returncode}: {done.stderr[:200]}"


def main():
    if not (BUILD / ".libs/libhakmem.so").exists():
        skip_all("no shared library was built")
    tap = Tap()
    number = 0
    with scratch() as directory:
        for page in sorted((SRC / "man").glob("*.3")):
            for i, code in enumerate(examples(page.read_text()), 1):
                number += 1
                wrong = complaint(code, directory)
                tap.ok(not wrong, f"{page.name}: example {i}", [wrong])
        tap.ok(number > 0, "there are examples")
        tap.ok("nowhere" in complaint("#include <hakmem/hakmem.h>\nint main(void) { return nowhere; }\n",
                                      directory), "negative control: an example that does not compile")
        tap.ok("status 3" in complaint("int main(void) { return 3; }\n", directory),
               "negative control: an example that fails")
    tap.done()


main()
