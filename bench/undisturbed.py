"""What comparing and witnessing all the time costs while nothing is wrong, and whether they find anything then.

    python -m bench.undisturbed [--rest N] [--seconds N] [--rate N] [--json]

A system that `tieout up` has started, first at rest, then with generated trade of `--rate` orders a second. Nothing is
damaged, so every break and every sighting is false. Belongs here: that run, and the processor time of each worker in
both phases. Does not belong here: disturbances without damage (`bench/soak.py`), damages (`bench/repairs.py`),
checkouts as fast as they go (`bench/serving_load.py`).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from bench.figures import Figure, measured
from bench.looking import Records, Workers, read_records
from bench.started import say, started_system, tieout
from contracts.settings import Settings
from stack.processes.workers import RECONCILER, WITNESS
from traffic.live import run_live

T = TypeVar("T")

ORDERS = 200
SAID_EVERY_SECONDS = 60.0
WATCHERS = (RECONCILER, WITNESS)


def measure(*, rest: int = 120, seconds: int = 1_200, rate: int = 8) -> list[Figure]:
    """Return the cost of each worker in both phases, and what was found although nothing was wrong."""
    with started_system(orders=ORDERS, has_traffic=False) as settings:
        idle, _ = _during(settings, "at rest", lambda: time.sleep(rest))
        trade, orders = _during(settings, f"at {rate} orders/s", lambda: _trade(settings, seconds, rate))
        say("comparing everything once more")
        tieout(settings.var_dir, "reconcile")
        records = read_records(settings)
    return [
        *idle,
        *trade,
        Figure(name="orders placed", value=orders or 0, unit=""),
        Figure(name="orders per second", value=(orders or 0) / seconds, unit=""),
        *_found(records),
    ]


def _trade(settings: Settings, seconds: int, rate: int) -> int:
    report = run_live(settings, threading.Event(), orders_per_second=rate, duration_seconds=seconds)
    if not report.orders or report.unreachable:
        raise RuntimeError(f"The trade placed {report.orders} orders; a pod was away {report.unreachable} times.")
    return report.orders


def _during(settings: Settings, name: str, phase: Callable[[], T]) -> tuple[list[Figure], T]:
    """Return what every worker took during the phase, and its result; say every minute what was found so far."""
    workers = Workers(settings=settings)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(phase)
        while wait([running], SAID_EVERY_SECONDS).not_done:
            records = read_records(settings)
            found = f"{len(records.breaks)} breaks, {len(records.sightings)} sightings"
            say(f"{name}: {time.monotonic() - workers.began:.0f} s, {found}")
    taken = workers.taken()
    watching = sum(taken[worker][0] for worker in WATCHERS)
    figures = [Figure(name=f"{name}: reconciler and witnesses", value=watching, unit="% of a core")]
    for worker, (percent, memory) in sorted(taken.items(), key=lambda item: -item[1][0]):
        if percent >= 1 or worker in WATCHERS:
            figures.append(Figure(name=f"  {worker}", value=percent, unit="% of a core"))
            figures.append(Figure(name=f"  {worker}, memory", value=memory, unit="MB"))
    return figures, running.result()


def _found(records: Records) -> list[Figure]:
    return [
        Figure(name=f"false {name}", value=len(found), unit="", goal="= 0", is_met=not found)
        for name, found in (("breaks", records.breaks), ("sightings", records.sightings))
    ]


if __name__ == "__main__":
    sys.exit(measured(measure, rest="seconds without any order", seconds="seconds of trade", rate="orders a second"))
