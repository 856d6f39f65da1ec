# SPDX-License-Identifier: MIT
"""The tree in which mutants are built and judged: a copy of the source (src), a build of it with its test programs (build),
what a mutant changes (mutant), the same without a mutant (clean) and a build that counts which lines each test reaches
(cov).

A mutant costs one compilation of each object that reads its file, a link of the shared library, and a link of each unit
test that is run. make and libtool have no part in that: their start takes longer than the compiler."""

import gzip
import hashlib
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from mutants import SRC

TREE = Path("mutate-tree").resolve()
COPY, PLAIN, MUTANT, CLEAN, COV, TSAN = (TREE / d for d in ("src", "build", "mutant", "clean", "cov", "build-tsan"))
LIBRARY = MUTANT / "libhakmem.so.0"
COV_FLAGS = f"-O0 --coverage -fprofile-update=atomic -include {COPY}/tests/coverage/dump.h".split()

UNITS = """ace acectl any_policy arena batch bigcache cgroup config export guard heap l25 meta options os p2 pagemap panic
policy secure site slab span sync thread""".split()
# Without those that take their time, or count what memory or time others use too.
INTEGRATION = "semantics early signals stats threads guard forks options purposes seccomp operators sites grid limits".split()
LONG = 1.5                      # seconds of processor time
EXPLORE = "tests/explore/explore"
MODEL = ["./tests/model/model", "--quiet", "--seed", "3", "--ops"]
TSAN_TESTS = ["sync", "heap", "l25", "policy", "any_policy"]
TEST_ENVIRONMENT = {"CK_VERBOSITY": "silent", "CK_FORK": "yes", "CK_TAP_LOG_FILE_NAME": "-", "CK_DEFAULT_TIMEOUT": "0",
                    "CK_TIMEOUT_MULTIPLIER": "20", "HK_TEST_PATIENCE": "8", "LC_ALL": "C"}


# ---- watching a test --------------------------------------------------------------------------------------------------


@dataclass
class Limits:
    """Of a test and all that it starts. Processor time: a slow or busy machine kills no mutant; it is late."""
    cpu: float = 60
    idle: int = 8               # seconds in which they hardly do anything: they wait for each other
    wall: float = 150
    resident: int = 4 << 30


def session_of(leader):
    """(processor seconds, bytes resident, everybody sleeps, process ids) of the processes of a session."""
    cpu, resident, asleep, pids = 0.0, 0, True, []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/stat") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) != leader:
            continue
        pids.append(int(entry.name))
        cpu += sum(int(n) for n in fields[11:15]) / os.sysconf("SC_CLK_TCK")
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        asleep = asleep and fields[0] in "SZT"
    return cpu, resident, asleep, pids


def end_session(leader):
    for _ in range(3):
        for pid in session_of(leader)[3]:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass


def watch(command, cwd, env=None, limits=Limits()):
    """(verdict, processor seconds): "passed", "failed", "too long", "stuck", "too big", "late". Ends at the first `not ok`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                               start_new_session=True, env={**os.environ, **(env or {})})
    os.set_blocking(process.stdout.fileno(), False)
    begun = looked = time.monotonic()
    seen, text, verdict = [], b"", None
    while verdict is None:
        ready = select.select([process.stdout], [], [], 0.02)[0]
        chunk = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        text = text.rpartition(b"\n")[2] + chunk if b"\n" in text else text + chunk
        now = time.monotonic()
        if re.search(rb"^(not ok(?!.*# (TODO|SKIP))|Bail out)", text, re.M):
            verdict = "failed"
        elif process.poll() is not None:
            verdict = "passed" if process.returncode in (0, 77) else "failed"
        elif ready and not chunk:
            time.sleep(0.02)    # the end of its output, not its own
        if now - looked > 1 and verdict is None:
            looked = now
            cpu, resident, asleep, _ = session_of(process.pid)
            seen = [*seen[-limits.idle:], (cpu, asleep)]
            # A supervisor that looks at its clock all the time is no work; waiting for the processor is no sleep.
            stuck = (len(seen) > limits.idle and cpu - seen[0][0] < 0.3 and sum(not s[1] for s in seen) < 3)
            verdict = ("too long" if cpu > limits.cpu else "stuck" if stuck else "too big" if resident > limits.resident else
                       "late" if now - begun > limits.wall else None)
    end_session(process.pid)
    process.stdout.close()
    process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return verdict, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(command, cwd, wall=600):
    return watch(command, cwd, limits=Limits(cpu=1e9, idle=10 ** 9, wall=wall))[0] == "passed"


def must(command, cwd):
    if subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit(f"{cwd}: failed: {' '.join(map(str, command))}")


# ---- the tree -----------------------------------------------------------------------------------------------------------


def source_hash():
    whole = hashlib.sha256()
    for top in ("lib", "include", "tests/unit", "tests/death", "tests/integration", "tests/model", "tests/explore",
                "tests/coverage/dump.h"):
        for path in sorted((SRC / top).rglob("*")) if (SRC / top).is_dir() else [SRC / top]:
            if path.is_file():
                whole.update(str(path.relative_to(SRC)).encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def copy_source():
    """With the times of the files: make sees what is new, and not that a mutant's file was put back."""
    keep = shutil.ignore_patterns(".git", "build", "autom4te.cache", "*.o", "*.lo", "debian", "mutate-tree", "corpus", "*-build")
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(SRC, COPY, ignore=keep, symlinks=True)
    (COPY / "tests/fuzz/corpus").mkdir(parents=True, exist_ok=True)


def variables(names):
    """What make has for them."""
    command = ["make", "-s", "--eval", "hkprint: ; $(info " + "@@".join(f"$({n})" for n in names) + ")", "hkprint"]
    out = subprocess.run(command, cwd=PLAIN, stdout=subprocess.PIPE, check=True, text=True).stdout
    return dict(zip(names, (value.split() for value in out.strip("\n").split("\n")[0].split("@@"))))


def reads(deps):
    """What a file of dependencies says that an object reads, under lib/."""
    found = re.findall(r"(\S+)", deps.read_text().split("\n\n")[0].replace("\\\n", " "))
    prefix = str(COPY / "lib") + "/"
    return {os.path.normpath(f)[len(prefix):] for f in found if os.path.normpath(f).startswith(prefix)}


@dataclass
class Object:
    source: Path
    target: str                 # under build/, in make's own build
    flags: list
    deps: set


@dataclass
class Stage:
    label: str
    command: list
    env: dict = field(default_factory=dict)
    unit: str = ""              # of the unit test that it runs
    harness: bool = False       # tests/integration/harness.h: a case at a time when it is named
    explores: bool = False      # a model of schedules, of objects of its own
    cpu: float = 1.0            # seconds, of the library as it is

    def on(self, where):
        """Its command, folder and environment with what was linked there."""
        put = lambda text: text.replace(str(MUTANT), str(where))
        return [put(c) for c in self.command], PLAIN, {k: put(v) for k, v in self.env.items()}

    def cases(self):
        """Their names, where they can be run one by one."""
        if self.unit:
            return re.findall(r'(?:new_case\(suite, |tcase_create\()"([^"]+)"', (COPY / f"tests/unit/test_{self.unit}.c").read_text())
        if not self.harness:
            return []
        out = subprocess.run(self.command, cwd=PLAIN, env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             text=True, check=False).stdout
        return re.findall(r"^ok \d+ - (.*?)$", re.sub(r".* # SKIP.*", "", out), re.M)

    def of(self, case):
        label = f"{self.label}: {case}"
        if self.unit:
            return replace(self, label=label, env={**self.env, "CK_RUN_CASE": case})
        return replace(self, label=label, command=[*self.command, case])


class Tree:
    def __init__(self):
        configure = [str(COPY / "configure"), "--quiet", "--disable-static", "CFLAGS=-O1 -g0"]
        stamp, now = TREE / "stamp", source_hash()
        TREE.mkdir(exist_ok=True)
        self.fresh = not stamp.exists() or stamp.read_text() != now
        if self.fresh:
            copy_source()
        else: # an earlier call may have ended inside a mutant
            shutil.copytree(SRC / "lib", COPY / "lib", dirs_exist_ok=True)
        if not (PLAIN / "Makefile").exists():
            PLAIN.mkdir(parents=True, exist_ok=True)
            must(configure, PLAIN)
        if self.fresh:
            programs = [f"tests/unit/test_{u}" for u in UNITS] + [f"tests/integration/{p}" for p in INTEGRATION]
            if self.can_explore():
                programs.append(EXPLORE)
            # Its test functions are what an optimiser makes of them.
            must(["make", "-s", "CFLAGS=-O2 -g0", "tests/integration/sites"], PLAIN)
            must(["make", "-s", "-j2", "libhakmem.la", "tests/death/death", "tests/death/hardened", "tests/model/model", *programs], PLAIN)
            shutil.rmtree(COV, ignore_errors=True)
            shutil.rmtree(CLEAN, ignore_errors=True)
            (TREE / "map.json").unlink(missing_ok=True)
            stamp.write_text(now)
        self.learn()
        self.stages = [*all_stages(), *self.models()]

    @staticmethod
    def can_explore():
        return variables(["HAVE_EXPLORE_TRUE"])["HAVE_EXPLORE_TRUE"] != ["#"]

    def models(self):
        """Of schedules. They reach what they are made of: nothing counts lines there."""
        if not self.explore_objects:
            return []
        out = subprocess.run([f"./{EXPLORE}", "--list"], cwd=PLAIN, stdout=subprocess.PIPE, check=True, text=True).stdout
        names = [line.split()[1] for line in out.splitlines() if line.startswith("model ")]
        return [Stage(f"explore {name}", [str(MUTANT / "explore"), name], explores=True) for name in names]

    def learn(self):
        unit_vars = [f"tests_unit_test_{u}_{w}" for u in UNITS for w in ("OBJECTS", "LDADD", "LDFLAGS")]
        names = ["DEFS", "DEFAULT_INCLUDES", "AM_CPPFLAGS", "libhakmem_core_la_CFLAGS", "AM_CFLAGS", "CFLAGS", "CC", "LIBS", "HK_LDFLAGS",
                 "AM_LDFLAGS", "LDADD", "libhakmem_core_la_OBJECTS", "libhakmem_la_OBJECTS",
                 *(f"tests_explore_explore_{w}" for w in ("OBJECTS", "CPPFLAGS", "CFLAGS", "LDFLAGS")), *unit_vars]
        self.make = make = variables(names)
        self.cc = (["ccache"] if shutil.which("ccache") else []) + make["CC"]
        common = [*make["DEFS"], *make["DEFAULT_INCLUDES"], *make["AM_CPPFLAGS"]]
        self.core = [self.object_of(o, common) for o in make["libhakmem_core_la_OBJECTS"]]
        self.entry = [self.object_of(o, common) for o in make["libhakmem_la_OBJECTS"]]
        explore = make["tests_explore_explore_OBJECTS"] if self.can_explore() else []
        self.explore_objects = [self.explore_object(o) for o in explore]
        self.unit_objects = {u: [self.test_object(o, common) for o in make[f"tests_unit_test_{u}_OBJECTS"]] for u in UNITS}

    def object_of(self, target, common):
        path = Path(target)
        prefix, _, name = path.stem.partition("-")
        deps = reads(PLAIN / path.parent / ".deps" / f"{path.stem}.Plo")
        flags = [*common, *self.make["libhakmem_core_la_CFLAGS"], *self.make["CFLAGS"], "-fPIC", "-DPIC"]
        return Object(COPY / path.parent / f"{name}.c", str(path.parent / ".libs" / f"{path.stem}.o"), flags, deps)

    def test_object(self, target, common):
        path = Path(target)
        deps = reads(PLAIN / path.parent / ".deps" / f"{path.stem}.Po")
        return Object(COPY / path.with_suffix(".c"), target, [*common, *self.make["AM_CFLAGS"], *self.make["CFLAGS"]], deps)

    def explore_object(self, target):
        path, make = Path(target), self.make
        deps = reads(PLAIN / path.parent / ".deps" / f"{path.stem}.Po")
        flags = [*make["DEFS"], *make["DEFAULT_INCLUDES"], *make["tests_explore_explore_CPPFLAGS"],
                 *make["tests_explore_explore_CFLAGS"], *make["CFLAGS"]]
        return Object(COPY / path.parent / (path.stem.partition("-")[2] + ".c"), target, flags, deps)

    def compile(self, thing, where, extra=()):
        target = where / thing.target
        target.parent.mkdir(parents=True, exist_ok=True)
        return run([*self.cc, *thing.flags, *extra, "-c", "-o", str(target), str(thing.source)], PLAIN)

    # A mutant of FILE (under lib/) is in src; which objects differ from those of the library as it is? None: it does
    # not compile.
    def build(self, name):
        shutil.rmtree(MUTANT, ignore_errors=True)
        MUTANT.mkdir()
        self.mutated = name
        differ = set()
        tests = {o.target: o for objects in self.unit_objects.values() for o in objects}
        for thing in [*self.core, *self.entry, *tests.values()]:
            if name in thing.deps:
                if not self.compile(thing, MUTANT):
                    return None
                if (MUTANT / thing.target).read_bytes() == (PLAIN / thing.target).read_bytes():
                    (MUTANT / thing.target).unlink()
                else:
                    differ.add(thing.target)
        return differ

    def at(self, thing, where):
        path = where / thing.target
        return str(path if path.exists() else PLAIN / thing.target)

    def link_library(self, where, extra=()):
        objects = [self.at(o, where) for o in (*self.entry, *self.core)]
        return run([*self.make["CC"], "-shared", *self.make["CFLAGS"], *extra, *self.make["HK_LDFLAGS"],
                    f"-Wl,--version-script={COPY}/lib/libhakmem.map", "-Wl,-soname,libhakmem.so.0",
                    "-o", str(where / "libhakmem.so.0"), *objects], PLAIN)

    def link_unit(self, unit, where, extra=()):
        """An archive, as with make: a test that includes a file of the library has its functions from there."""
        archive = where / "core.a"
        if not archive.exists() and not run(["ar", "rcsT", str(archive), *(self.at(o, where) for o in self.core)], PLAIN):
            return False
        make, add = self.make, f"tests_unit_test_{unit}_LDADD"
        flags = [f for f in make[f"tests_unit_test_{unit}_LDFLAGS"] or make["AM_LDFLAGS"] if f != "-no-install"]
        libraries = [f for f in make[add] or make["LDADD"] if f != "libhakmem_core.la"]
        return run([*make["CC"], *make["AM_CFLAGS"], *make["CFLAGS"], *extra, *flags, "-o", str(where / f"test_{unit}"),
                    *(self.at(o, where) for o in self.unit_objects[unit]), str(archive), *libraries], PLAIN)

    def link_explore(self, where):
        for thing in self.explore_objects:
            if where == MUTANT and self.mutated in thing.deps and not self.compile(thing, MUTANT):
                return False
        return run([*self.make["CC"], *self.make["CFLAGS"],
                    *(f for f in self.make["tests_explore_explore_LDFLAGS"] if f != "-no-install"),
                    "-o", str(where / "explore"), *(self.at(o, where) for o in self.explore_objects),
                    str(PLAIN / "tests/explore/.libs/libengine.a"), *self.make["LIBS"]], PLAIN)

    def is_linked(self, stage, where):
        """What a stage runs, linked there if it was not."""
        where.mkdir(exist_ok=True)
        if stage.explores:
            return (where / "explore").exists() or self.link_explore(where)
        if stage.unit:
            return (where / f"test_{stage.unit}").exists() or self.link_unit(stage.unit, where)
        return (where / "libhakmem.so.0").exists() or self.link_library(where)

    # ---- which lines a test reaches ----

    def count(self):
        """Runs every test once as it is, and once in a build that counts."""
        path = TREE / "map.json"
        if path.exists():
            known = json.loads(path.read_text())
            self.stages = [part for s in self.stages for part in ([s.of(c) for c in known["cases"][s.label]] or [s])]
            self.reached = {label: {f: set(lines) for f, lines in files.items()} for label, files in known["reached"].items()}
            self.lines = {f: sorted(lines) for f, lines in known["lines"].items()}
            for stage in self.stages:
                stage.cpu = known["cpu"][stage.label]
            return
        cases = self.count_alone()
        self.count_lines()
        path.write_text(json.dumps({"reached": {k: {f: sorted(v) for f, v in files.items()} for k, files in self.reached.items()},
                                    "lines": self.lines, "cases": cases, "cpu": {s.label: s.cpu for s in self.stages}}))

    def time(self, stage):
        if not self.is_linked(stage, MUTANT):
            sys.exit("the library as it is does not link")
        for _ in range(2): # the machine may be busy
            verdict, stage.cpu = watch(stage.command, PLAIN, stage.env)
            if verdict == "passed":
                break
        print(f"{stage.label}: {verdict}, {stage.cpu:.1f} s of processor time", flush=True)
        if verdict != "passed":
            sys.exit(f"without a mutation {stage.label} fails already")

    def count_alone(self):
        """What takes long is taken apart. Which cases each stage has then."""
        shutil.rmtree(MUTANT, ignore_errors=True)
        MUTANT.mkdir()
        self.mutated, cases, parts = "", {}, []
        for stage in self.stages:
            self.time(stage)
            names = stage.cases() if stage.cpu > LONG else []
            cases[stage.label] = names if len(names) > 1 else []
            mine = [stage.of(case) for case in cases[stage.label]]
            for part in mine:
                self.time(part)
            parts += mine or [stage]
        self.stages = parts
        return cases

    def count_lines(self):
        things = {o.target: o for o in (*self.core, *self.entry, *(o for all in self.unit_objects.values() for o in all))}
        for thing in things.values():
            if not (COV / thing.target).exists() and not self.compile(thing, COV, COV_FLAGS):
                sys.exit(f"{thing.source} does not compile with --coverage")
        self.link_library(COV, ["--coverage"])
        self.reached, lines = {}, {}
        for stage in self.stages:
            if stage.explores:
                self.reached[stage.label] = {}
                continue
            for old in COV.rglob("*.gcda"):
                old.unlink()
            if stage.unit:
                self.link_unit(stage.unit, COV, ["--coverage"])
            watch(*stage.on(COV), Limits(cpu=600))
            self.reached[stage.label] = gcov(lines)
        self.lines = {f: sorted(numbers) for f, numbers in lines.items()}

    def who_reaches(self, name, number):
        """The stages that run through a line, the quickest first. A line without code of its own is part of the one above."""
        above = [n for n in self.lines.get(name, []) if n <= number]
        line = above[-1] if above else number
        explored = any(name in thing.deps for thing in self.explore_objects)
        return sorted((s for s in self.stages if line in self.reached[s.label].get(name, ()) or s.explores and explored),
                      key=lambda s: (s.explores, s.cpu))


def gcov(lines):
    """Lines that were run, by file; adds all that could be to `lines`."""
    reached = {}
    data = [str(p) for p in COV.rglob("*.gcda")]
    if not data:
        return reached
    out = subprocess.run(["gcov", "--json-format", "--stdout", *data], cwd=COV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    if out[:2] == b"\x1f\x8b":
        out = gzip.decompress(out)
    prefix = str(COPY / "lib") + "/"
    for document in out.decode().splitlines():
        for file in json.loads(document)["files"]:
            name = os.path.normpath(os.path.join(str(PLAIN), file["file"]))
            if not name.startswith(prefix):
                continue
            name = name[len(prefix):]
            lines.setdefault(name, set()).update(line["line_number"] for line in file["lines"])
            reached.setdefault(name, set()).update(line["line_number"] for line in file["lines"] if line["count"])
    return reached


def all_stages():
    library = {"HK_LIB": str(LIBRARY), "HK_BUILDDIR": str(PLAIN), "HK_SRCDIR": str(COPY), **TEST_ENVIRONMENT}
    preload = {**library, "LD_PRELOAD": str(LIBRARY)}
    for unit in UNITS:
        yield Stage(f"unit {unit}", [str(MUTANT / f"test_{unit}")], dict(TEST_ENVIRONMENT), unit)
    yield Stage("death", ["./tests/death/death"], library)
    yield Stage("hardened", ["./tests/death/hardened"], library)
    yield Stage("model", [*MODEL, "1M"], preload)
    yield Stage("model, threads", [*MODEL, "1M", "--threads", "3"], preload)
    for program in INTEGRATION:
        yield Stage(f"integration {program}", [f"./tests/integration/{program}"], library, harness=True)
