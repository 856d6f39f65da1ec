#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the shared object is made of: libc alone behind it, bound at load, never unloaded, no call
that could allocate to find a thread's data, little static TLS, no path of the build machine."""

import re
import subprocess

from lint import BUILD, LIB, SRC, Tap, compile_sample, run, scratch, skip_all, tool

# dlopen of the library takes its TLS from what the loader keeps spare, about 1.6 KiB less what
# others took; jemalloc's 2.6 KiB is why dlopen of it fails.
MAX_TLS_BYTES = 1024
READELF = tool("READELF", "readelf")


def loader_view(binary):
    """Violations in the dynamic section, the program headers and the undefined symbols."""
    dynamic = run([*READELF, "-dW", binary])
    segments = run([*READELF, "-lW", binary])
    symbols = run([*READELF, "--dyn-syms", "-W", binary])
    relocations = run([*READELF, "-rW", binary])
    found = []

    needed = re.findall(r"\(NEEDED\).*\[(.+?)\]", dynamic)
    found += [f"needs {n}" for n in needed if not re.match(r"(libc|ld-linux\S*|libpthread)\.so\.", n)]
    for flag in ("NOW", "NODELETE"):
        if not re.search(rf"\(FLAGS_1\).*\b{flag}\b", dynamic):
            found.append(f"not linked with -z {flag.lower()}")
    if "GNU_RELRO" not in segments:
        found.append("no RELRO segment")
    if "TEXTREL" in dynamic:
        found.append("text relocations")
    if re.search(r"GNU_STACK.* RWE", segments):
        found.append("executable stack")
    if "__tls_get_addr" in symbols:
        found.append("calls __tls_get_addr")
    # Initial-exec variables are reached by TPOFF; DTPMOD or TLSDESC mean another model.
    models = set(re.findall(r"R_\w*?(DTPMOD\w*|TLSDESC)\b", relocations))
    found += [f"TLS relocation {model}: not initial-exec" for model in sorted(models)]
    tls = re.search(r"^\s*TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", segments, re.M)
    if tls and int(tls.group(1), 16) > MAX_TLS_BYTES:
        found.append(f"{int(tls.group(1), 16)} bytes of static TLS, at most {MAX_TLS_BYTES}")
    return found


def paths_inside(binary, paths):
    """Paths of the build machine in what is loaded (debug information is not)."""
    found = []
    for section in (".rodata", ".data", ".text", ".data.rel.ro"):
        text = run([*READELF, "-p", section, binary], stderr=subprocess.DEVNULL)
        found += [f"{section} holds {p}" for p in paths if str(p) in text]
    return found


GENERAL_DYNAMIC = """
__thread char big[4096];
char *get(int i) { return big + i; }
double sqrt(double);
double root(double x) { return sqrt(x); }
const char *where(void) { return "/nowhere/src/lib/x.c"; }
"""


def main():
    if not LIB.exists() or READELF is None:
        skip_all("no shared library was built, or no readelf")
    tap = Tap()
    tap.clean(loader_view(LIB), "libc alone, bound now, no delete, relro, initial-exec TLS")
    tap.clean(paths_inside(LIB, {str(SRC), str(BUILD)}), "no path of the build machine")
    with scratch() as directory:
        bad = compile_sample(GENERAL_DYNAMIC, directory, "-Wl,-z,lazy", "-Wl,--no-as-needed", "-lm")
        found = loader_view(bad)
        tap.caught(found, "tls_get_addr", "a call to __tls_get_addr")
        tap.caught(found, "DTPMOD", "general dynamic TLS")
        tap.caught(found, "bytes of static TLS", "too much TLS")
        tap.caught(found, "needs libm", "a library beside libc")
        tap.caught(found, "-z now", "lazy binding")
        tap.caught(paths_inside(bad, {"/nowhere/src"}), "nowhere", "a build path")
    tap.done()


main()
