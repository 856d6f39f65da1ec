#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The counters as others see them: through hak_stats_root in a running process, in a static program and in
a core dump; through the sealed file of stats:export; as JSON and XML; at the exit of real programs; and
the trace ring. The reader here knows only what <hakmem/stats.h> says."""

import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lint"))
from lint import BUILD, LIB, SRC, Tap, skip_all, tool  # noqa: E402

CHILD = BUILD / "tests/integration/stats_child"
GRANULE = 16384
MEMBERS = ("mapped", "live", "cached", "slab_free", "dirty", "purged", "metadata", "live_blocks")
tap = Tap()


# ---- memory of others ----

class Process:
    def __init__(self, pid):
        self.file = open(f"/proc/{pid}/mem", "rb", buffering=0)

    def read(self, address, size):
        self.file.seek(address)
        return self.file.read(size)


class Core:
    """A core file; what lies in none of its segments is read from the files that were mapped there."""

    def __init__(self, path):
        self.data = Path(path).read_bytes()
        phoff, = struct.unpack_from("<Q", self.data, 32)
        phentsize, phnum = struct.unpack_from("<HH", self.data, 54)
        self.segments, self.mapped = [], []
        for i in range(phnum):
            kind, _, offset, vaddr, _, filesz, memsz, _ = struct.unpack_from(
                "<IIQQQQQQ", self.data, phoff + i * phentsize)
            if kind == 1:
                self.segments.append((vaddr, offset, filesz, memsz))
            elif kind == 4:
                self.notes(self.data[offset:offset + filesz])

    def notes(self, data):
        at = 0
        while at + 12 <= len(data):
            namesz, descsz, kind = struct.unpack_from("<III", data, at)
            desc = at + 12 + (namesz + 3 & ~3)
            if kind == 0x46494C45:  # NT_FILE
                count, page = struct.unpack_from("<QQ", data, desc)
                names = data[desc + 16 + 24 * count:desc + descsz].split(b"\0")
                for i in range(count):
                    start, end, offset = struct.unpack_from("<QQQ", data, desc + 16 + 24 * i)
                    self.mapped.append((start, end, offset * page, names[i].decode()))
            at = desc + (descsz + 3 & ~3)

    def read(self, address, size):
        for vaddr, offset, filesz, _ in self.segments:
            if vaddr <= address and address + size <= vaddr + filesz:
                return self.data[offset + address - vaddr:][:size]
        for start, end, offset, name in self.mapped:
            if start <= address and address + size <= end:
                with open(name, "rb") as file:
                    file.seek(offset + address - start)
                    return file.read(size)
        raise OSError(f"{address:#x} is not in the core")


class File:
    def __init__(self, data):
        self.data = data

    def read(self, address, size):
        return self.data[address:address + size]


def symbol(elf):
    """Value of hak_stats_root, whichever symbol table has it; and is the file relocated?"""
    readelf = tool("READELF", "readelf")
    text = subprocess.run([*readelf, "-Ws", "-h", str(elf)], capture_output=True, text=True).stdout
    values = re.findall(r"^\s*\d+: ([0-9a-f]+)\s.* hak_stats_root", text, re.M)
    return int(values[0], 16), "EXEC (" not in text


# ---- the reader ----

def text(raw):
    return raw.split(b"\0")[0].decode()


class Stats:
    ROOT = "<8sIHBBIIQQQQQII16s"
    TABLE = "<16sQQIIIIIIQ"
    FIELD = "<24sIHBB"

    def __init__(self, memory, address):
        self.memory = memory
        raw = memory.read(address, struct.calcsize(self.ROOT))
        (self.magic, self.order, self.abi, self.word, self.flags, self.root_bytes, count, self.self_,
         tables, self.pid, self.start_ns, self.updated_ns, self.sequence, self.mode,
         version) = struct.unpack(self.ROOT, raw)
        self.version = text(version)
        self.tables = {}
        self.order_of = []
        if self.magic != b"HAKSTATS" or self.order != 0x01020304 or self.abi != 1 or count > 64 or not tables:
            return
        for i in range(count):
            name, rows, fields, nr, row_bytes, nr_fields, flags, following, parent, _ = struct.unpack(
                self.TABLE, memory.read(tables + 64 * i, 64))
            described = {}
            for k in range(nr_fields):
                f_name, offset, size, kind, _ = struct.unpack(
                    self.FIELD, memory.read(fields + 32 * k, 32))
                described[text(f_name)] = (offset, size, kind)
            self.tables[text(name)] = (rows, nr, row_bytes, described, flags, following, parent)
            self.order_of.append(text(name))

    def address(self, at):
        return struct.unpack("<Q", self.memory.read(at, 8))[0]

    def bases(self, name):
        rows, nr, row_bytes, _, flags, following, parent = self.tables[name]
        if flags & 1:  # chained
            at, seen = self.address(rows), 0
            while at and seen < 100000:
                yield at
                at, seen = self.address(at + following), seen + 1
        elif flags & 2:  # nested: one list per row of the parent
            for base in self.bases(self.order_of[parent]):
                yield base + rows
        else:
            first = self.address(rows) if flags & 4 else rows
            for i in range(nr):
                yield first + i * row_bytes

    def row(self, name, base):
        row_bytes, described = self.tables[name][2:4]
        raw = self.memory.read(base, row_bytes)
        values = {}
        for field, (offset, size, kind) in described.items():
            piece = raw[offset:offset + size]
            values[field] = int.from_bytes(piece, "little") if size in (1, 2, 4, 8) else piece
        return values

    def rows(self, name):
        return [self.row(name, base) for base in self.bases(name)]

    def nested(self, name):
        """For each row of the parent the rows of this table."""
        nr, row_bytes = self.tables[name][1:3]
        return [[self.row(name, base + i * row_bytes) for i in range(nr)] for base in self.bases(name)]

    def blob(self, name):
        rows, nr = self.tables[name][:2]
        return self.memory.read(rows, nr)

    def parts(self):
        """The identity, by the equations of stats.h."""
        one = {name: self.rows(name)[0] for name in ("os", "meta", "pagemap", "span", "big", "bigcache",
                                                     "batch", "heaps")}
        sizes = self.rows("size")
        slabs, magazines = self.nested("heap.slabs"), self.nested("heap.magazine")
        slab_free = slab_bytes = small = in_magazines = 0
        for of_heap, cursors in zip(slabs, magazines):
            for size, slab, magazine in zip(sizes, of_heap, cursors):
                cached = (magazine["cursor"] - slab["bottom"]) // self.word - 1 - slab["nr_gaps"] if slab["bottom"] else 0
                whole = size["slab_mask"] + 1
                slab_bytes += slab["nr_slabs"] * whole
                slab_free += slab["nr_free"] * size["size"]
                slab_free += slab["nr_slabs"] * (whole - size["slots"] * size["size"])
                in_magazines += cached * size["size"]
                small += (slab["nr_slabs"] * size["slots"] - slab["nr_free"] - cached) * size["size"]
        parcels = 0
        for parcel in self.rows("parcel"):
            in_parcel = sum(sizes[c]["size"] for c in parcel["classes"][:parcel["count"]])
            if parcel["count"] and in_parcel != parcel["bytes"]:
                raise ValueError(f"a parcel of {parcel['bytes']} bytes holds {in_parcel}")
            parcels += in_parcel
        cached_runs = GRANULE * (sum(h["l25_granules"] for h in self.rows("heap")) +
                                 sum(s["cached_granules"] for s in self.rows("shard")))
        runs = one["span"]["used"] - slab_bytes
        if runs != GRANULE * sum(r["nr_granules"] for r in self.rows("run")):
            raise ValueError("runs by class and runs in the span differ")
        big, span = one["big"], one["span"]
        return {
            "mapped": one["os"]["mapped"],
            "live": small - parcels + runs - cached_runs + big["live"] + big["loose"] + big["emergency"],
            "cached": in_magazines + parcels + cached_runs + one["bigcache"]["bytes"],
            "slab_free": slab_free,
            "dirty": span["dirty"] + one["batch"]["pending"],
            "purged": span["mapped"] - span["used"] - span["dirty"] + one["batch"]["lost"] +
            one["os"]["lost"],
            "metadata": one["meta"]["mapped"] + one["pagemap"]["nr_leaves"] * 2 * self.word * 32768 +
            one["heaps"]["chunks"] + one["os"]["shared"],
        }

    def options(self):
        """{name: (value, source)} for words and whole numbers."""
        config = self.blob("config")
        names = self.blob("option.names").decode().split("\0")
        words = self.blob("option.words").decode().split("\0")
        sources = [row["source"] for row in self.rows("option.source")]
        found = {}
        for name, word, source, row in zip(names, words, sources, self.rows("option")):
            size = {0: 1, 1: 4, 2: 4, 3: 8, 4: self.word, 5: 4, 6: 4}[row["type"]]
            value = int.from_bytes(config[row["offset"]:row["offset"] + size], "little")
            if row["type"] < 2:
                value = word.split("|")[value].split("/")[0]
            found[name] = (value, ("default", "file", "environment", "api")[source])
        return found


def adds_up(parts):
    return parts["mapped"] == sum(v for k, v in parts.items() if k in MEMBERS[1:7])


# ---- children ----

class Child:
    def __init__(self, what, program=CHILD, preload=True, **environment):
        env = {**os.environ, **{k: str(v) for k, v in environment.items()}}
        if preload:
            env["LD_PRELOAD"] = str(LIB)
        limit = env.pop("NOFILE", None)
        self.process = subprocess.Popen(
            [str(program), what], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit),) * 2)) if limit
            else None)
        self.pid = self.process.pid

    def line(self):
        return self.process.stdout.readline().split()

    def ready(self):
        """Pid and members, from the child itself."""
        words = self.line()
        if not words or words[0] != "ready":
            raise SystemExit(f"Bail out! the child said {words}")
        return int(words[1]), dict(zip(MEMBERS, map(int, words[2:])))

    def go_on(self):
        self.process.stdin.write("x")
        self.process.stdin.flush()

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)


def base_of(pid, name):
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            fields = line.split()
            if len(fields) > 5 and os.path.realpath(fields[5]) == os.path.realpath(name):
                return int(fields[0].split("-")[0], 16) - int(fields[2], 16)
    raise SystemExit(f"Bail out! {name} is not in the maps of {pid}")


def look(pid, elf):
    value, relocated = symbol(elf)
    return Stats(Process(pid), value + (base_of(pid, elf) if relocated else 0))


def run(what, **environment):
    env = {**os.environ, "LD_PRELOAD": str(LIB), **environment}
    return subprocess.run([str(CHILD), what], env=env, capture_output=True, text=True, timeout=60)


# ---- live, static, core ----

def compare(stats, pid, said, name):
    parts = stats.parts()
    tap.ok(adds_up(parts), f"{name}: the sum, to the byte", [str(parts)])
    wanted = {k: said[k] for k in MEMBERS[:7]}
    tap.ok(parts == wanted, f"{name}: what the program reads itself", [f"said {wanted}", f"read {parts}"])
    tap.ok((stats.pid, stats.mode, stats.word) == (pid, 2, 8), f"{name}: root",
           [str(vars(stats))[:300]])


def live_process():
    child = Child("threads", HAKMEM_TINY_REFILL_COUNT=7, HAKMEM_OPTIONS="thp:off")
    pid, said = child.ready()
    stats = look(pid, LIB)
    compare(stats, pid, said, "live")
    options = stats.options()
    tap.ok(options["tiny_refill_count"] == (7, "environment") and options["thp"][0] == "off" and
           options["strict"] == ("off", "default"), "live: options and their sources", [str(options)])
    policy = stats.rows("policy")[0]
    tap.ok(policy["big_threshold"] == 2 << 20, "live: the policy in force", [str(policy)])
    keyed = [site for site in stats.rows("site") if site["key"]]
    tap.ok(any(site["allocs"] == 25 and site["max_bytes"] == 124 for site in keyed), "live: call sites",
           [str(keyed[:3])])
    heaps = stats.rows("heap")
    tap.ok(len(heaps) >= 5 and sum(h["remote_frees"] for h in heaps) >= 4000, "live: heaps", [str(heaps)[:900]])
    if shutil.which("gcore"):
        core_dump(pid, said)
    else:
        tap.skip("core: the sum", "no gcore")
    child.go_on()
    child.end()


def core_dump(pid, said):
    with tempfile.TemporaryDirectory() as directory:
        value, _ = symbol(LIB)
        address = value + base_of(pid, LIB)
        done = subprocess.run(["gcore", "-o", f"{directory}/core", str(pid)], capture_output=True, text=True)
        path = Path(f"{directory}/core.{pid}")
        if not path.exists():
            tap.skip("core: the sum", f"gcore: {done.stderr[-80:]!r}")
            return
        compare(Stats(Core(path), address), pid, said, "core")


def static_program():
    cc = tool("CC", "cc")
    archive = BUILD / ".libs/libhakmem.a"
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "static"
        done = subprocess.run([*cc, "-static", "-DLINKED", "-w", f"-I{SRC}/include", "-o", str(program),
                               str(SRC / "tests/integration/stats_child.c"), str(archive), "-lpthread"],
                              capture_output=True, text=True)
        if done.returncode != 0 or not archive.exists():
            tap.skip("static: the sum", f"does not link: {done.stderr[-100:]!r}")
            return
        child = Child("threads", program=program, preload=False)
        pid, said = child.ready()
        compare(look(pid, program), pid, said, "static")
        child.go_on()
        child.end()


def switched_off():
    child = Child("files", HAKMEM_OPTIONS="stats:off")
    child.line()
    pid, _ = child.ready()
    tap.ok(look(pid, LIB).self_ == 0, "stats:off: nobody finds them")
    child.go_on()
    child.end()


# ---- the file ----

def shared_files(pid):
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:hakmem-stats"):
            found.append(int(fd))
    return found


def read_file(pid, fd):
    """A copy that no renewal touched."""
    for _ in range(1000):
        with open(f"/proc/{pid}/fd/{fd}", "rb") as file:
            data = file.read()
            file.seek(0)
            again = file.read(128)
        stats = Stats(File(data), 0)
        if stats.sequence % 2 == 0 and again[72 - 8:72] == data[72 - 8:72]:
            return stats
    raise SystemExit("Bail out! the file never rests")


def exported_file():
    child = Child("files", HAKMEM_STATS="export")
    nr_next = int(child.line()[1])
    pid, _ = child.ready()
    fds = shared_files(pid)
    tap.ok(len(fds) == 1 and fds[0] >= 100 and nr_next == 3,
           "export: one file, high up, and the program gets descriptor 3", [f"{fds}, next {nr_next}"])
    path = f"/proc/{pid}/fd/{fds[0]}"
    tap.ok(os.stat(path).st_mode & 0o7777 == 0o400, "export: mode 0400", [oct(os.stat(path).st_mode)])
    import fcntl
    with open(path, "rb") as file:
        seals = fcntl.fcntl(file.fileno(), 1034)  # F_GET_SEALS
        flags = open(f"/proc/{pid}/fdinfo/{fds[0]}").read()
        tap.ok(seals & 0x17 == 0x17, "export: sealed: seal, shrink, grow, future write", [hex(seals)])
        tap.ok(int(re.search(r"flags:\s*(\d+)", flags).group(1), 8) & 0o2000000 != 0, "export: close-on-exec")
    stats = read_file(pid, fds[0])
    row = stats.rows("stats")[0]
    tap.ok(stats.flags & 1 and stats.pid == pid and adds_up(row), "export: the sum, to the byte", [str(row)])
    options = stats.blob("option.text").decode()
    tap.ok("\nstats export environment\n" in options, "export: options", options.splitlines()[:5])
    child.go_on()
    child.end()
    quiet = Child("files")
    nr_next = int(quiet.line()[1])
    pid, _ = quiet.ready()
    tap.ok(shared_files(pid) == [] and nr_next == 3, "by default there is no file")
    quiet.go_on()
    quiet.end()


def renewal():
    child = Child("renewed", HAKMEM_STATS="export")
    pid, _ = child.ready()
    fd = shared_files(pid)[0]
    first = read_file(pid, fd)
    child.go_on()
    _, said = child.ready()
    second = read_file(pid, fd)
    tap.ok(second.updated_ns > first.updated_ns and second.sequence > first.sequence and
           second.rows("stats")[0]["live"] > 1000000, "export: slow paths renew it",
           [f"{first.updated_ns} {second.updated_ns} {second.rows('stats')[0]}, said {said}"])
    classes = [c for c in second.rows("class") if c["slabs"]]
    tap.ok(classes and all(c["slabs"] * c["slots"] == c["live"] + c["cached"] + c["parcels"] + c["free"]
                           for c in classes), "export: classes add up", [str(classes[:3])])
    child.go_on()
    child.end()


def few_descriptors():
    child = Child("files", HAKMEM_STATS="export", NOFILE=20)
    nr_next = int(child.line()[1])
    pid, _ = child.ready()
    fds = shared_files(pid)
    tap.ok(len(fds) == 1 and 3 < fds[0] < 20 and nr_next == 3, "export: under a low limit of descriptors",
           [f"{fds}, next {nr_next}"])
    child.go_on()
    child.end()


def children_keep_off():
    child = Child("fork", HAKMEM_STATS="export")
    pid, said = child.ready()  # of the fork child, after a second of work
    parent = read_file(child.pid, shared_files(child.pid)[0])
    tap.ok(pid != child.pid and parent.pid == child.pid and
           parent.rows("stats")[0]["live"] < said["live"], "export: a fork child writes into no file",
           [str(parent.rows("stats")[0]), str(said)])
    compare(look(pid, LIB), pid, said, "fork child, live")
    child.go_on()
    child.end()
    child = Child("_Fork", HAKMEM_STATS="export")
    pid, said = child.ready()  # of the parent, whose child has worked for a second
    stats = read_file(pid, shared_files(pid)[0])
    tap.ok(stats.pid == pid and stats.rows("stats")[0]["live"] <= said["live"],
           "export: nor does a child of _Fork", [str(stats.rows("stats")[0]), str(said)])
    child.go_on()
    child.end()


# ---- text ----

def documents():
    done = run("json")
    document = json.loads(done.stdout)
    tap.ok(adds_up(document) and len(document["classes"]) > 20 and document["mode_name"] == "balanced",
           "JSON: parses and adds up", [done.stdout[:300]])
    live = sum(c["live"] for c in document["classes"])
    tap.ok(live <= document["live_blocks"] <= live + 10, "JSON: blocks by class",
           [f"{live} {document['live_blocks']}"])
    tree = ElementTree.fromstring(run("info").stdout)
    totals = {t.get("type"): int(t.get("size")) for t in tree.findall("total")}
    system = int(tree.find("system[@type='current']").get("size"))
    heap_sizes = tree.findall("heap/sizes/size")
    tap.ok(tree.tag == "malloc" and tree.get("version") == "1" and totals["mmap"] > 6000000 and
           0 < totals["fast"] + totals["rest"] < system and len(heap_sizes) > 10,
           "malloc_info: XML as glibc's users read it", [f"{totals} {system}"])


PROGRAMS = {
    "bash": ["bash", "-c", "for i in {1..3000}; do a[i]=$i$i; done; echo ${#a[@]}"],
    "python3": ["python3", "-c", "import json\nx = [dict(a=i, b=str(i)) for i in range(50000)]\n"
                "b = bytearray(9000000)\nprint(len(json.dumps(x)))"],
    "sqlite3": ["sqlite3", ":memory:", "create table t(a, b); with recursive n(i) as (select 1 union all "
                "select i + 1 from n where i < 20000) insert into t select i, hex(randomblob(50)) from n; "
                "select count(*) from t; create index x on t(b);"],
    "perl": ["perl", "-e", "$h{$_} = [1 .. 20] for 1 .. 5000; print scalar(%h)"],
}


def at_exit():
    for name, command in PROGRAMS.items():
        if not shutil.which(command[0]):
            tap.skip(f"at exit: {name}", "not installed")
            continue
        env = {**os.environ, "LD_PRELOAD": str(LIB), "HAKMEM_STATS_DUMP": "1", "PYTHONMALLOC": "malloc"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        lines = [line for line in done.stderr.splitlines() if line.startswith("hakmem: bytes:")]
        parts = {k: int(v) for k, v in re.findall(r"(\w+) (\d+)", lines[-1])} if lines else {}
        tap.ok(bool(parts) and adds_up(parts), f"at exit: {name} adds up to the byte",
               [lines[-1] if lines else done.stderr[:200]])


# ---- the trace ring ----

def traces():
    done = run("signal", HAKMEM_MODE="research")
    events = re.findall(r"^hakmem: trace (\d+): at \d+ ms, thread 0x[0-9a-f]+, (\w+)", done.stderr, re.M)
    numbers = [int(number) for number, _ in events]
    tap.ok(done.returncode == 0 and "alive" in done.stdout and len(events) > 100 and
           numbers == list(range(numbers[0], numbers[0] + len(numbers))) and
           {"refill", "slab", "big"} <= {what for _, what in events},
           "trace: SIGUSR2 prints it in mode research", [done.stderr[:300], str(done.returncode)])
    done = run("own-signal", HAKMEM_MODE="research")
    tap.ok(done.stdout == "mine\nalive\n" and "trace" not in done.stderr,
           "trace: the program's own handler stays", [done.stdout, done.stderr[:200]])
    for mode in ("balanced", "learning"):
        done = run("signal", HAKMEM_MODE=mode)
        tap.ok(done.returncode == -signal.SIGUSR2 and "trace" not in done.stderr,
               f"trace: SIGUSR2 ends a program in mode {mode}", [str(done.returncode), done.stderr[:200]])
    done = run("double-free", HAKMEM_OPTIONS="tiny_trace_ring:on")
    tap.ok(done.returncode == -signal.SIGABRT and done.stderr.startswith("hakmem: double free") and
           done.stderr.count("hakmem: trace ") > 100, "trace: follows a diagnostic", [done.stderr[:300]])
    done = run("double-free")
    tap.ok(done.stderr.count("\n") == 1 and "trace" not in done.stderr, "trace: off by default",
           [done.stderr[:300]])


def main():
    if not LIB.exists() or not CHILD.exists():
        skip_all("no shared library or no program to look at")
    live_process()
    static_program()
    switched_off()
    exported_file()
    renewal()
    few_descriptors()
    children_keep_off()
    documents()
    at_exit()
    traces()
    tap.done()


main()
