#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every header compiles alone and twice; the public ones as C99 and C++ without a warning."""

import os
import shlex
import subprocess

from lint import SRC, Tap, scratch, sources, tool, write_tree

FLAGS = shlex.split(os.environ.get("HK_CFLAGS_BASE", f"-I{SRC}/lib -I{SRC}/include"))
STRICT = ["-Wall", "-Wextra", "-Wundef", "-Wshadow", "-Werror", "-pedantic-errors"]


def compiles(compiler, flags, header):
    """The compiler's complaint about a file that holds only this header, twice; '' when content."""
    text = f'#include "{header}"\n#include "{header}"\nextern int hk_not_empty;\n'
    language = "c++" if compiler is CXX else "c"
    done = subprocess.run([*compiler, *flags, "-fsyntax-only", "-x", language, "-"],
                          input=text, text=True, capture_output=True)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    return f"{header}: {errors[0] if errors else 'does not compile'}"


CC = tool("CC", "cc")
CXX = tool("CXX", "c++")


def internal(root, flags):
    found = []
    for path in sources(root / "lib", ".h"):
        complaint = compiles(CC, ["-std=gnu11", *flags], path)
        if complaint:
            found.append(complaint)
    return found


def public(root):
    """hakmem.h is the only door; the other headers beside it refuse to be entered directly."""
    found = []
    include = ["-I", root / "include"]
    for standard, compiler in (("c99", CC), ("c17", CC), ("c++11", CXX), ("c++20", CXX)):
        if compiler is None:
            continue
        complaint = compiles(compiler, [f"-std={standard}", *STRICT, *include],
                             root / "include/hakmem/hakmem.h")
        if complaint:
            found.append(f"{standard}: {complaint}")
    for path in sources(root / "include", ".h"):
        if path.name != "hakmem.h" and not compiles(CC, include, path):
            found.append(f"{path.relative_to(root)} lets itself be included directly")
    return found


def main():
    tap = Tap()
    tap.clean(internal(SRC, FLAGS), "headers in lib/ compile alone and twice")
    tap.clean(public(SRC), "public headers are C99 and C++ clean")
    with scratch() as directory:
        bad = write_tree(directory, {
            "lib/a/a.h": "size_t hk_a(void);\n",
            "lib/b/b.h": "enum hk_b { HK_B };\n",
            "include/hakmem/hakmem.h": "int new(void);\n",
            "include/hakmem/sub.h": "int hak_sub(void);\n",
        })
        found = internal(bad, [])
        tap.caught(found, "size_t", "a header that needs another one first")
        tap.caught(found, "b/b.h", "a header without a guard")
        if CXX:
            tap.caught(public(bad), r"c\+\+11", "a C++ keyword as a name")
        tap.caught(public(bad), "sub.h lets itself", "a sub-header that can be included directly")
    tap.done()


main()
