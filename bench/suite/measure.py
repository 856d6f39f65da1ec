# SPDX-License-Identifier: MIT
"""One run of one row under one allocator. Every run is its own process, started by `suite launch`, which
limits its time, samples its resident size and reports how it ended."""

import os
import subprocess
from pathlib import Path


# Fewer samples of the resident size do not make an average.
MIN_SAMPLES = 5


class Launcher:
    def __init__(self, suite, work, timeout):
        self.suite, self.work, self.timeout = str(suite), Path(work), timeout
        self.report = self.work / "report"
        self.out = self.work / "out"

    def command(self, argv, allocator, env=None, links_another=False, series=None):
        """The command line of a measured run."""
        settings = {**(env or {}), **allocator.environment(links_another)}
        options = [x for k, v in settings.items() for x in ("-e", f"{k}={v}")]
        if series:
            options += ["-s", str(series)]
        self.report.unlink(missing_ok=True)
        return [self.suite, "launch", "-t", str(self.timeout), "-o", str(self.out), *options,
                str(self.report), *map(str, argv)]

    def run(self, argv, allocator, **options):
        """A sample; its "outcome" is "ok" or what went wrong."""
        subprocess.run(self.command(argv, allocator, **options), env=clean_environment(),
                       stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return self.sample()

    def sample(self):
        if not self.report.exists():
            return {"outcome": "no report"}
        report = numbers(self.report.read_text())
        # Wall time in seconds, memory in KiB. mean_kib is None when a run was too short to sample.
        sample = {"outcome": outcome(report), "wall": report["wall_ns"] / 1e9,
                  "cpu": report["cpu_ns"] / 1e9, "peak_kib": report["peak_kib"],
                  "mean_kib": report["mean_kib"] if report["samples"] >= MIN_SAMPLES else None,
                  "soft_faults": report["soft_faults"], "hard_faults": report["hard_faults"],
                  "ops": 1, "extra": {}}
        return sample


def clean_environment():
    """Without what would change the allocators behind our back."""
    return {k: v for k, v in os.environ.items()
            if k != "LD_PRELOAD" and not k.startswith(("HAKMEM_", "MALLOC_", "MIMALLOC_", "TCMALLOC_"))
            and k not in ("GLIBC_TUNABLES",)}


def outcome(report):
    if report["timeout"]:
        return "hang"
    if report["signal"]:
        return f"signal {report['signal']}"
    if report["exit"]:
        return f"status {report['exit']}"
    return "ok"


def numbers(text):
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.strip().lstrip("-").isdigit():
            found[key] = int(value)
    return found


class WorkloadRow:
    """A workload of the suite."""

    timed = True

    def __init__(self, name, family, what, seed, scale, param=None, label=None):
        self.workload, self.family, self.what = name, family, what
        self.name = label or name
        self.options = ["--seed", seed, "--scale", scale]
        if param is not None:
            self.options += ["--param", param]
        self.timed = name != "hello"

    def missing(self):
        return None

    def run(self, launcher, allocator, series=None):
        sample = launcher.run([launcher.suite, self.workload, *self.options], allocator,
                              series=series)
        return self.inside(sample, launcher.out.read_text() if launcher.out.exists() else "")

    @staticmethod
    def inside(sample, text):
        """The workload's own clock and peak: without the process's start and end."""
        values = numbers(text)
        if sample["outcome"] != "ok":
            return sample
        if "ops" not in values:
            return {**sample, "outcome": "no result"}
        known = ("ops", "peak_kib", "soft_faults", "hard_faults")
        sample.update({k: values[k] for k in known})
        sample.update(wall=values["wall_ns"] / 1e9, cpu=values["cpu_ns"] / 1e9)
        sample["extra"] = {k: v for k, v in values.items()
                           if k not in known and not k.endswith("_ns")}
        return sample


def workloads(suite, seed, scale):
    """All rows of `suite list`, in its order."""
    text = subprocess.run([str(suite), "list"], capture_output=True, text=True, check=True,
                          env=clean_environment()).stdout
    rows = []
    for line in text.splitlines():
        name, family, _, what = line.split("\t")
        rows.append(WorkloadRow(name, family, what, seed, scale))
    return rows


def count_syscalls(strace, suite, row, allocator, work):
    """System calls of a run, by name, counted by strace; None when that fails."""
    out = Path(work) / "strace"
    env = [f"--env={k}={v}" for k, v in allocator.environment().items()]
    done = subprocess.run([strace, "-f", "-c", "-U", "calls,name", "-o", str(out), *env, str(suite),
                           row.workload, *map(str, row.options)],
                          env=clean_environment(), capture_output=True, timeout=300, check=False)
    if done.returncode != 0 or not out.exists():
        return None
    calls = {}
    for line in out.read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[0].isdigit() and words[1] != "total":
            calls[words[1]] = int(words[0])
    return calls
