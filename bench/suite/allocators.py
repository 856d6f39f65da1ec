# SPDX-License-Identifier: MIT
"""The allocators to compare: ours in its modes, libc's, Debian's packages, and any other library."""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

MODES = ("minimal", "fast", "balanced", "learning", "research")
PEERS = {
    "jemalloc": ("libjemalloc.so.2", "libjemalloc.so"),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc.so.3", "libmimalloc.so"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc_minimal.so"),
}
DEFAULT = ("hakmem", "glibc", "jemalloc", "mimalloc", "tcmalloc")


class Unusable(Exception):
    """An allocator that is not there, or does not load."""


@dataclass
class Allocator:
    name: str
    library: str = ""  # empty: nothing is preloaded
    env: dict = field(default_factory=dict)
    libc: str = ""     # glibc only: what to preload where a program links another allocator

    @property
    def ours(self):
        return self.name.startswith("hakmem")

    def environment(self, links_another=False):
        library = self.library or (self.libc if links_another else "")
        return {**self.env, **({"LD_PRELOAD": library} if library else {})}


def library_directories():
    """Where the dynamic linker looks, as far as a package's files go."""
    known = [*Path("/usr/lib").glob("*-linux-gnu"), *Path("/lib").glob("*-linux-gnu"),
             Path("/usr/lib64"), Path("/usr/lib"), Path("/usr/local/lib")]
    return [*map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))), *known]


def find_library(names):
    for name in names:
        for directory in library_directories():
            if (directory / name).exists():
                return str(directory / name)
    return None


def our_library(build):
    for name in ("libhakmem.so.0", "libhakmem.so"):
        path = Path(build) / ".libs" / name
        if path.exists():
            return str(path.resolve())
    raise Unusable(f"no libhakmem in {build}/.libs; run make first")


def hakmem(name, build):
    library = our_library(build)
    if name == "hakmem":
        return Allocator(name, library)
    mode = name.split("-", 1)[1]
    if mode == "baseline":  # what the learned thresholds are compared with
        return Allocator(name, library, {"HAKMEM_MODE": "minimal",
                                         "HAKMEM_MMAP_THRESHOLD": "256K"})
    if mode in MODES:
        return Allocator(name, library, {"HAKMEM_MODE": mode})
    raise Unusable(f"{name}: modes are {', '.join(MODES)} and baseline")


def resolve(spec, build):
    """NAME, or NAME=LIBRARY[,VARIABLE=VALUE]..."""
    if "=" in spec:
        name, rest = spec.split("=", 1)
        library, *variables = rest.split(",")
        if library and not Path(library).exists():
            raise Unusable(f"{name}: no file {library}")
        return Allocator(name, str(Path(library).resolve()) if library else "",
                         dict(v.split("=", 1) for v in variables))
    if spec == "hakmem" or spec.startswith("hakmem-"):
        return hakmem(spec, build)
    if spec == "glibc":
        return Allocator(spec, libc=find_library(["libc.so.6"]) or "")
    library = find_library(PEERS.get(spec, ()))
    if library is None:
        raise Unusable(f"{spec}: not installed")
    return Allocator(spec, library)


def check_loads(allocator):
    """A library that cannot be preloaded is ignored by ld.so with a message, and libc's malloc would be
    measured under its name."""
    if not allocator.library:
        return
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    done = subprocess.run(["cat", "/proc/self/maps"], env={**env, **allocator.environment()},
                          capture_output=True, text=True, timeout=20)
    if os.path.realpath(allocator.library) not in done.stdout:
        raise Unusable(f"{allocator.name}: {allocator.library} does not load: "
                       f"{done.stderr.strip()[:200] or f'status {done.returncode}'}")
