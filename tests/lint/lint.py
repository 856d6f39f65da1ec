# SPDX-License-Identifier: MIT
"""What the lint tests share: TAP output, where things are, and how to disassemble.

A lint test is a function from a tree or a binary to a list of violations. Each script calls it on
the real thing, where the list must be empty, and on a seeded bad sample, where it must not be: a
lint that cannot fail is worse than none.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SRC = Path(os.environ.get("HK_SRCDIR", Path(__file__).resolve().parents[2]))
# By hand: the build directory that one stands in, or build/.
HERE = Path.cwd() if (Path.cwd() / "config.status").exists() else SRC / "build"
BUILD = Path(os.environ.get("HK_BUILDDIR", HERE))
LIB = Path(os.environ.get("HK_LIB", BUILD / ".libs" / "libhakmem.so.0"))


class Tap:
    """Test Anything Protocol on stdout; the plan comes last."""

    def __init__(self):
        self.number = 0
        self.failed = 0

    def ok(self, good, name, details=()):
        self.number += 1
        print(f"{'ok' if good else 'not ok'} {self.number} - {name}")
        if not good:
            self.failed += 1
            for line in details:
                print(f"#   {line}")

    def clean(self, violations, name):
        """Passes when there is no violation."""
        self.ok(not violations, name, violations[:40])

    def caught(self, violations, pattern, name):
        """Negative control: passes when a violation matches the pattern."""
        self.ok(any(re.search(pattern, v) for v in violations), f"negative control: {name}",
                [f"expected a violation matching {pattern!r}, got {violations or 'none'}"])

    def skip(self, name, reason):
        self.number += 1
        print(f"ok {self.number} - {name} # SKIP {reason}")

    def todo(self, good, name, reason):
        """A promise that is not kept yet: shown, and no failure; becomes an ordinary test when kept."""
        if good:
            self.ok(True, name)
            return
        self.number += 1
        print(f"not ok {self.number} - {name} # TODO {reason}")

    def comment(self, text):
        print(f"# {text}")

    def done(self):
        print(f"1..{self.number}")
        sys.exit(1 if self.failed else 0)


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def tool(name, default):
    """A command from the environment as a list; None when configure did not find it."""
    command = os.environ.get(name, default)
    return None if command in ("", ":") else command.split()


def run(command, **options):
    """Standard output of a command that must succeed."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True,
                          errors="replace", **options)
    if done.returncode != 0:
        raise SystemExit(f"Bail out! {' '.join(map(str, command))}: status {done.returncode}")
    return done.stdout


def strip_comments(text, keep_strings=True):
    """C source without comments (and, if asked, without string contents); lines keep their numbers."""

    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token if keep_strings else token[0] * 2
        return re.sub(r"[^\n]", " ", token)

    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.S)


def sources(root, *suffixes):
    """Files below root with one of the suffixes, sorted."""
    return sorted(p for p in Path(root).rglob("*") if p.suffix in suffixes and p.is_file())


def write_tree(root, files):
    """A small tree for a negative control: {relative path: text}."""
    for name, text in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Path(root)


def compile_sample(code, directory, *flags, suffix=".so"):
    """A shared object made from C text, for the negative controls of the binary lints."""
    source = Path(directory) / "sample.c"
    source.write_text(code)
    out = Path(directory) / f"sample{suffix}"
    cc = tool("CC", "cc")
    run([*cc, "-O2", "-shared", "-fPIC", "-w", *flags, "-o", out, source])
    return out


def scratch():
    return tempfile.TemporaryDirectory(prefix="hakmem-lint-")


class Insn:
    __slots__ = ("address", "name", "operands", "where")

    def __init__(self, address, name, operands, where):
        self.address, self.name, self.operands, self.where = address, name, operands, where

    def __str__(self):
        return f"{self.where}: {self.address:x}: {self.name} {self.operands}".rstrip()


PREFIXES = {"lock", "rep", "repz", "repnz", "bnd", "notrack", "data16", "cs", "ds", "es", "ss",
            "xacquire", "xrelease"}


def disassemble(binary):
    """The instructions of a binary's code sections, in address order."""
    objdump = tool("OBJDUMP", "objdump")
    text = run([*objdump, "-d", "--no-show-raw-insn", binary])
    where = "?"
    insns = []
    for line in text.splitlines():
        head = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        if head:
            where = head.group(1)
            continue
        body = re.match(r"\s*([0-9a-f]+):\s+(\S.*)$", line)
        if not body:
            continue
        words = body.group(2).split(None, 1)
        name, operands = words[0], words[1] if len(words) > 1 else ""
        # "lock cmpxchg x,y" stays one instruction with its prefix in the name.
        while name.split()[-1] in PREFIXES and operands:
            following = operands.split(None, 1)
            name += " " + following[0]
            operands = following[1] if len(following) > 1 else ""
        insns.append(Insn(int(body.group(1), 16), name, operands, where))
    return insns


def dynamic_symbols(binary):
    """Exported symbols: {name: (address, size, kind, version)}."""
    nm = tool("NM", "nm")
    # Debian's NM may carry libtool's -B; it does no harm here.
    text = run([nm[0], "-D", "-S", "--defined-only", "--with-symbol-versions", binary])
    table = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3:
            fields.insert(1, "0")
        if len(fields) != 4:
            continue
        address, size, kind, name = fields
        name, _, version = name.partition("@")
        table[name] = (int(address, 16), int(size, 16), kind, version.lstrip("@"))
    return table


def is_x86_64(binary):
    with open(binary, "rb") as f:
        head = f.read(20)
    return head[:5] == b"\x7fELF\x02" and head[18:20] == b"\x3e\x00"
