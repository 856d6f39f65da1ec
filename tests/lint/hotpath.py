#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The fast path of malloc and free, as the compiler laid it out: from the entry, along branches not
taken, to the first return. It holds no call, no push, no lock; nobody adds one unseen."""

import re

from lint import LIB, Tap, compile_sample, disassemble, dynamic_symbols, is_x86_64, scratch, skip_all

HOT = ["malloc", "free"]
MAX_INSNS = 60  # a straight line longer than this is no fast path


def why_not(insn):
    """Why an instruction may not stand on the fast path, or None."""
    if re.match(r"(notrack |bnd )?call", insn.name):
        return "call"
    if re.match(r"push|enter", insn.name):
        return "push"
    if insn.name.startswith("lock ") or insn.name.startswith("xchg") and "(" in insn.operands:
        return "lock"
    if re.match(r"[lms]fence|cpuid|rdtsc|syscall|div|idiv", insn.name):
        return "slow instruction"
    return None


def fast_path(insns, at, entry, end):
    """The instructions of the fast path and the reason why it does not end well, or None."""
    line = []
    address = entry
    while len(line) < MAX_INSNS:
        if address not in at:
            return line, "runs out of the code"
        index = at[address]
        insn = insns[index]
        line.append(insn)
        if re.match(r"(repz |bnd )?ret", insn.name):
            return line, None
        if re.match(r"(notrack |bnd )?jmp", insn.name):
            target = re.match(r"([0-9a-f]+)\b", insn.operands)
            if not target:
                return line, "indirect jump"
            address = int(target.group(1), 16)
            if not entry <= address < end:
                return line, "leaves the function by a jump: no return on the straight line"
            continue
        if index + 1 >= len(insns):
            return line, "runs out of the code"
        address = insns[index + 1].address
    return line, f"no return within {MAX_INSNS} instructions"


def violations(binary, names, lengths=None):
    symbols = dynamic_symbols(binary)
    insns = disassemble(binary)
    at = {insn.address: index for index, insn in enumerate(insns)}
    found = []
    for name in names:
        if name not in symbols:
            found.append(f"{name}: not exported")
            continue
        entry, size = symbols[name][:2]
        line, reason = fast_path(insns, at, entry, entry + size)
        bad = [f"{name}: {why_not(i)}: {i}" for i in line if why_not(i)]
        if reason:
            bad.append(f"{name}: {reason}")
        if bad:
            bad += [f"  {name}: {i}" for i in line]
        found += bad
        if lengths is not None:
            lengths[name] = len(line)
    return found


SAMPLE = """
extern void *slow(unsigned long);
extern int counter;
void *calls(unsigned long n) { return (char *)slow(n) + 1; }
void *tail(unsigned long n) { return slow(n + 1); }
void locks(void) { __atomic_fetch_add(&counter, 1, __ATOMIC_RELAXED); }
void *good(void **p) { if (__builtin_expect(!p, 0)) return slow(1); return *p; }
"""


def main():
    if not LIB.exists() or not is_x86_64(LIB):
        skip_all("needs a shared x86-64 library")
    tap = Tap()
    lengths = {}
    for name in HOT:
        tap.clean(violations(LIB, [name], lengths), f"{name}: straight, no call, push or lock")
    tap.comment("instructions on the fast path: " +
                ", ".join(f"{name} {length}" for name, length in lengths.items()))
    with scratch() as directory:
        sample = compile_sample(SAMPLE, directory, "-Wl,-z,lazy")
        tap.caught(violations(sample, ["calls"]), "calls: call", "a call")
        tap.caught(violations(sample, ["tail"]), "tail: leaves|tail: indirect", "a tail call")
        tap.caught(violations(sample, ["locks"]), "locks: lock", "a lock prefix")
        tap.caught(violations(sample, ["missing"]), "not exported", "a function that is not there")
        tap.clean(violations(sample, ["good"]), "a slow branch out of line is allowed")
    tap.done()


main()
