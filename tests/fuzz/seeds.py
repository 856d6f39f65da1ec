#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the inputs that a campaign starts from, where bytes at random would take long to get to: a snapshot cut down to
one row a table, a core dump with counters as they lie in memory, a policy file. A new layout of the counters
(HAK_STATS_ABI) wants them written again.

usage: seeds.py CORPUS SNAPSHOT POLICY     (files that hakmem-stats snapshot and hak_policy_save wrote)
"""

import struct
import sys
from pathlib import Path

ROOT = struct.Struct("<8sIHBBIIQQQQQII16s40x")
TABLE = struct.Struct("<16sQQIIIIIIQ")
FIELD = struct.Struct("<24sIHBB")
CHAINED, NESTED, INDIRECT, BLOB = 1, 2, 4, 8


class Image:
    """Memory from `base` on, the root first."""

    def __init__(self, base, root):
        self.base = base
        self.root = list(root)
        self.data = bytearray(ROOT.size)
        self.tables = []

    def put(self, data):
        while len(self.data) % 8:
            self.data.append(0)
        at = self.base + len(self.data)
        self.data += data
        return at

    def word(self, value):
        return self.put(struct.pack("<Q", value))

    def table(self, name, rows, nr_rows, row_bytes, fields=(), flags=0, link=0, parent=0):
        where = self.put(b"".join(FIELD.pack(n.encode(), o, b, k, 0) for n, o, b, k in fields)) if fields else 0
        self.tables.append(TABLE.pack(name.encode(), rows, where, nr_rows, row_bytes, len(fields), flags, link, parent, 0))

    def finish(self):
        self.root[6] = len(self.tables)
        self.root[8] = self.put(b"".join(self.tables))
        self.data[:ROOT.size] = ROOT.pack(*self.root)
        return bytes(self.data)


def small_snapshot(data, most_rows):
    root = ROOT.unpack_from(data)
    image = Image(0, root)
    for i in range(root[6]):
        name, rows, fields, nr, row_bytes, nr_fields, flags, link, parent, _ = TABLE.unpack_from(data, root[8] + i * TABLE.size)
        keep = nr if flags & BLOB else min(nr, most_rows)
        list_of = [FIELD.unpack_from(data, fields + f * FIELD.size)[:4] for f in range(nr_fields)]
        image.table(name.rstrip(b"\0").decode(), image.put(data[rows:rows + keep * row_bytes]) if keep else 0, keep, row_bytes,
                    [(n.rstrip(b"\0").decode(), o, b, k) for n, o, b, k in list_of], flags, link, parent)
    return image.finish()


def live(base):
    """Counters as a process has them: chains, nested rows, a pointer to a row, the option tables."""
    root = [b"HAKSTATS", 0x01020304, 1, 8, 0, ROOT.size, 0, base, 0, 77, 5, 0, 0, 2, b"0.1.0"]
    image = Image(base, root)
    word = lambda *names: [(n, 8 * i, 8, 2) for i, n in enumerate(names)]
    image.table("os", image.word(4 << 20), 1, 8, word("mapped"))
    image.table("size", image.put(struct.pack("<6Q", 64, 65535, 1000, 4096, 65535, 15)), 2, 24, word("size", "slab_mask", "slots"))
    second = image.put(struct.pack("<12Q", 0, 1, 7, 3, 0, 1, 5, 0, 2, 9, 0, 0))
    first = image.put(struct.pack("<12Q", second, 2, 8, 1, 0, 1, 4, 0, 1, 3, 0, 0))
    image.table("heap", image.word(first), 0, 96, [("id", 8, 8, 0), ("refills", 16, 8, 1), ("l25_granules", 24, 8, 2)], CHAINED)
    image.table("heap.slabs", 32, 2, 24, word("bottom", "nr_slabs", "nr_free"), NESTED, 0, 2)
    image.table("heap.magazine", 80, 2, 8, word("cursor"), NESTED, 0, 2)
    parcel = image.put(struct.pack("<QIxxxxQ8s", 0, 2, 128, bytes(8)))
    image.table("parcel", image.word(parcel), 0, 32, [("count", 8, 4, 2), ("bytes", 16, 8, 3), ("classes", 24, 8, 8)], CHAINED)
    site = struct.pack("<12Q", 0x401000, 17, 5, 2070, 1640, 900, 256, 512, 99, 88, 4096 * 9, 3)
    image.table("site", image.put(site * 2), 2, 96, word("key", "allocs", "frees", "total_bytes", "live_bytes", "max_bytes",
                "est_allocs_256ths", "est_frees_256ths", "est_bytes", "est_live_bytes", "lifetime_p50_4096ths", "purpose"))
    image.table("policy", image.word(image.word(2 << 20)), 1, 8, word("big_threshold"), INDIRECT)
    image.table("config", image.put(bytes(range(64))), 64, 1, (), BLOB)
    image.table("option", image.put(struct.pack("<8B", 0, 0, 0, 0, 2, 0, 4, 0)), 2, 4, [("type", 0, 1, 0), ("offset", 2, 2, 0)])
    image.table("option.source", image.put(b"\1\2"), 2, 1, [("source", 0, 1, 0)])
    image.table("option.names", image.put(b"mode\0thp\0"), 9, 1, (), BLOB)
    image.table("option.words", image.put(b"off|on\0a/b|c\0"), 13, 1, (), BLOB)
    image.table("latency", image.put(struct.pack("<128I", *([0] * 20 + [5, 7, 1] + [0] * 105))), 1, 512, [("bucket", 0, 512, 8)])
    return image.finish()


def core(base, memory):
    name = b"/usr/bin/libhakmem.so\0"
    files = struct.pack("<QQQQQ", 1, 4096, base, base + len(memory), 0) + name
    info = bytes(40) + b"sleep".ljust(16, b"\0") + bytes(80)
    notes = b"".join(struct.pack("<III4sI", 5, len(d), t, b"CORE", 0) + d.ljust((len(d) + 3) & ~3, b"\0")
                     for t, d in ((3, info), (0x46494c45, files)))
    header = struct.Struct("<16sHHIQQQIHHHHHH")
    segment = struct.Struct("<IIQQQQQQ")
    at = header.size + 2 * segment.size
    start = at + len(notes)
    return (header.pack(b"\x7fELF\2\1\1", 4, 62, 1, 0, header.size, 0, 0, header.size, segment.size, 2, 0, 0, 0) +
            segment.pack(4, 0, at, 0, 0, len(notes), 0, 4) +
            segment.pack(1, 6, start, base, 0, len(memory), len(memory), 4096) + notes + memory)


def main():
    corpus, snapshot, policy = (Path(p) for p in sys.argv[1:4])
    seeds = {}
    data = small_snapshot(snapshot.read_bytes(), 1)
    dump = core(0x10000, live(0x10000))
    seeds["stats/seed-snapshot"] = b"\0\0" + data
    for view in range(8):
        seeds[f"stats/seed-core-{view}"] = bytes((0x80 | view, 0)) + dump
    seeds["policy/seed-whole"] = b"\0" + policy.read_bytes()
    seeds["policy/seed-without-sum"] = b"\1" + policy.read_bytes().split(b"checksum")[0]
    for name, content in seeds.items():
        (corpus / name).parent.mkdir(parents=True, exist_ok=True)
        (corpus / name).write_bytes(content)


main()
