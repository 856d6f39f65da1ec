# SPDX-License-Identifier: MIT
"""Curves: cost of an operation, and peak RSS, against one quantity at a time."""

import os

import plot
from measure import WorkloadRow

# Workload: (what varies, its values).
CURVES = {
    "scale-threads": ("threads", (1, 2, 4, 8, 16, 64)),
    "scale-heap": ("live heap, MiB", (1, 4, 16, 64, 256, 1024, 2048, 4096, 8192)),
    "scale-made": ("threads ever made", (1, 10, 100, 1000, 10000)),
    "scale-sizes": ("distinct sizes", (1, 4, 16, 64, 256)),
    "scale-sites": ("call sites", (1, 4, 16, 64, 256, 1024)),
}
MAX_HEAP_MIB = 8192


def available_mib():
    try:
        with open("/proc/meminfo") as f:
            for line in f:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) // 1024
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def heap_limit(asked):
    """What was asked for, but never more than half of what is free: nobody wants to meet the swap."""
    return min(asked, MAX_HEAP_MIB, available_mib() // 2)


def rows(seed, scale, heap_mib):
    """One row per point of each curve."""
    found = []
    for workload, (quantity, values) in CURVES.items():
        for value in values:
            if workload == "scale-heap" and value > heap_mib:
                continue
            row = WorkloadRow(workload, "scale", f"{quantity}: {value}", seed, scale, value,
                              f"{workload[6:]}-{value}")
            row.curve, row.x = workload, value
            found.append(row)
    return found


def series(results, curve, value):
    lines = {}
    for a in results.allocators:
        line = [(row.x, value(row, a.name)) for row in results.rows
                if getattr(row, "curve", None) == curve]
        lines[a.name] = [p for p in line if p[1] is not None]
    return lines


def plots(results, directory):
    def cost(row, name):
        wall, ops = results.median(row, name, "wall"), results.median(row, name, "ops")
        return wall / ops * 1e9 if wall is not None and ops else None

    def resident(row, name):
        peak = results.median(row, name, "peak_kib")
        return peak / 1024 if peak is not None else None

    for curve, (quantity, _) in CURVES.items():
        plot.curves(directory / f"{curve}.svg", f"Cost of an operation against {quantity}",
                    quantity, "ns", series(results, curve, cost), log_x=True)
        plot.curves(directory / f"{curve}-rss.svg", f"Peak resident size against {quantity}",
                    quantity, "MiB", series(results, curve, resident), log_x=True)
