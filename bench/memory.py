"""The memory of each process of a command: ``python -m bench.memory -- python -m cli.run --once a.csv.gz``.

Samples the command's process tree and prints the peak of each kind of process. Children in a separate session are found
by the marker or the folder of their stack. Belongs here: sampling and printing. Does not belong here: starting a system
(the command does it).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from bench.figures import Figure, report

INTERVAL_SECONDS = 0.1
MEGABYTE = 1_000_000
SERVERS = ("postgres", "valkey-server", "supervisord")


@dataclass(kw_only=True)
class Peak:
    """The peak memory of the processes of one kind, in bytes, and their total processor time, in seconds."""

    largest: int = 0
    """Resident memory of one process, including shared memory."""
    together: int = 0
    """The sum over all processes at one time, without shared memory."""
    cpu: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, print the peaks; return the command's own exit code, or 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--goal-mb", type=float, help="the most that one process of the command itself may take")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("command", nargs="+", help="what to run, after --")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    code, peaks = measure(options.command)
    figures = list(_figures(peaks, time.monotonic() - started, options.goal_mb))
    missed = report("memory", figures, is_json=options.json)
    return code or missed


def measure(command: Sequence[str], interval_seconds: float = INTERVAL_SECONDS) -> tuple[int, dict[str, Peak]]:
    """Run `command` to its end; return its exit code and the peaks by kind of process."""
    folder = os.environ.get("TIEOUT_VAR_DIR", "")
    peaks: dict[str, Peak] = {}
    cpu: dict[tuple[str, int], float] = {}
    with subprocess.Popen(command) as child:
        root = psutil.Process(child.pid)
        while child.poll() is None:
            _sample(root, folder, peaks, cpu)
            time.sleep(interval_seconds)
    for (name, _), seconds in cpu.items():
        peaks[name].cpu += seconds
    return child.returncode, peaks


def _sample(root: psutil.Process, folder: str, peaks: dict[str, Peak], cpu: dict[tuple[str, int], float]) -> None:
    now: dict[str, int] = {}
    for process in _tree(root, folder):
        try:
            with process.oneshot():
                name, memory, times = kind_of(process.cmdline()), process.memory_info(), process.cpu_times()
        except psutil.Error:
            continue
        peak = peaks.setdefault(name, Peak())
        peak.largest = max(peak.largest, memory.rss)
        now[name] = now.get(name, 0) + memory.rss - getattr(memory, "shared", 0)
        cpu[name, process.pid] = times.user + times.system
    for name, private in now.items():
        peaks[name].together = max(peaks[name].together, private)


def _tree(root: psutil.Process, folder: str) -> Iterator[psutil.Process]:
    """Yield the command, its children, and the servers of its folder with theirs."""
    found = {root.pid: root}
    try:
        found |= {child.pid: child for child in root.children(recursive=True)}
        for process in psutil.process_iter() if folder else ():
            if process.name() in SERVERS and any(folder in word for word in process.cmdline()):
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    except psutil.Error:
        pass
    yield from found.values()


def kind_of(command: Sequence[str]) -> str:
    """Return the name under which a process is counted: its module, else its program."""
    words = list(command)
    if "-m" in words[:4] and words.index("-m") + 1 < len(words):
        return " ".join(words[words.index("-m") + 1 :][:2] if words[-1] != words[0] else words[:1]).split(" /")[0]
    if any("multiprocessing" in word for word in words):
        return "children (multiprocessing)"
    name = os.path.basename(words[0]).split(":")[0] if words else "?"
    return name


def _figures(peaks: dict[str, Peak], seconds: float, goal_mb: float | None) -> Iterator[Figure]:
    yield Figure(name="the command", value=seconds, unit="s")
    for name, peak in sorted(peaks.items(), key=lambda item: -item[1].largest):
        largest = peak.largest / MEGABYTE
        is_own = goal_mb is not None and name not in SERVERS
        yield Figure(
            name=f"{name}: largest process",
            value=largest,
            unit="MB",
            goal=f"<= {goal_mb:g}" if is_own and goal_mb is not None else "",
            is_met=largest <= goal_mb if is_own and goal_mb is not None else None,
        )
        yield Figure(name=f"{name}: all at once, not shared", value=peak.together / MEGABYTE, unit="MB")
        yield Figure(name=f"{name}: processor", value=peak.cpu, unit="s")


if __name__ == "__main__":
    sys.exit(main())
