#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No floating point in lib/: one division inside malloc raises SIGFPE in a program that has called
feenableexcept. Vector moves, zeroing and integer vector instructions are fine."""

import re

from lint import (LIB, SRC, Tap, compile_sample, disassemble, is_x86_64, scratch, sources,
                  strip_comments, write_tree)

ARITHMETIC = re.compile(
    r"^v?((add|sub|mul|div|sqrt|rsqrt|rcp|min|max|round|h?add|hsub|addsub|dp|u?comi|cmp\w*)"
    r"(ss|sd|ps|pd)|cvt\w+|fn?m(add|sub)\w+)$")
X87 = re.compile(r"^f(n?st|i?ld|ist|i?add|i?sub|i?mul|i?div|u?com|xch|chs|abs|sqrt|prem|rnd|2xm1|"
                 r"yl2x|scale|sin|cos|ptan|patan|ninit|init|ldcw)")
SOURCE = re.compile(r"\b(float|double|_Float\d+|__float128)\b|\b\d+\.\d*(e[+-]?\d+)?f?\b|<math\.h>")
# `cmpsd` and `movsd` are also string instructions; those have (%rsi) and (%rdi) as operands.
STRING = re.compile(r"\(%[re]?si\).*\(%[re]?di\)")


def in_code(binary):
    return [str(i) for i in disassemble(binary)
            if X87.match(i.name) or ARITHMETIC.match(i.name) and not STRING.search(i.operands)]


def in_source(root):
    found = []
    for path in sources(root / "lib", ".c", ".h", ".def"):
        text = strip_comments(path.read_text(), keep_strings=False)
        for match in SOURCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"{path.relative_to(root)}:{line}: {match.group(0)}")
    return found


def main():
    tap = Tap()
    tap.clean(in_source(SRC), "no float or double in lib/")
    if LIB.exists() and is_x86_64(LIB):
        tap.clean(in_code(LIB), "no floating-point arithmetic in the machine code")
    else:
        tap.skip("no floating-point arithmetic in the machine code", "needs a shared x86-64 library")
    with scratch() as directory:
        bad = write_tree(directory, {"lib/a/a.c": "/* double */ char s[] = \"float\"; float f;\n"
                                                  "int x = 3 * 1.5;\n"})
        tap.caught(in_source(bad), "a.c:1: float", "a float variable")
        tap.caught(in_source(bad), "a.c:2: 1.5", "a literal")
        tap.ok(len(in_source(bad)) == 2, "comments and strings are not source")
        code = compile_sample("int half(int n) { return n / 2.5; }\n"
                              "long double l(long double x) { return x * x; }\n", directory)
        if is_x86_64(code):
            tap.caught(in_code(code), "half: .* divsd", "a division in SSE")
            tap.caught(in_code(code), "l: .* fmul", "a product in x87")
        copy = compile_sample("struct s { char c[64]; };\n"
                              "void copy(struct s *a, struct s *b) { *a = *b; }\n", directory)
        tap.clean(in_code(copy), "a copy through vector registers is no arithmetic")
    tap.done()


main()
