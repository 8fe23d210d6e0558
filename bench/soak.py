"""No false difference: every pair compared again and again while orders are placed, a relay dies, a transaction hangs.

    python -m bench.soak [--seconds 300] [--rate 20] [--json]

Belongs here: that run, on servers and workers of its own, and its count of verdicts; nothing is damaged, so every
difference is a false one. Does not belong here: how fast a comparison is (`bench/compare.py`).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from bench.figures import Figure, report
from bench.world import running_system
from contracts.errors import StackError
from contracts.settings import PodSettings, Settings
from contracts.verdicts import PairResult, Verdict
from reconcile.run import run_pairs
from stack.builder import warm_builder
from stack.comparison import build_reconcile_context
from stack.processes import wait_until
from stack.supervision import Supervisor

START_SECONDS_MAX = 180.0
FALSE = (Verdict.INCONSISTENT, Verdict.UNKNOWN)


@dataclass(kw_only=True)
class Soak:
    """What a run saw."""

    rounds: int = 0
    keys_compared: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    doubtful: list[PairResult] = field(default_factory=list)
    """Results that are not consistent."""
    orders_placed: int = 0
    seconds: float = 0.0
    relay_restarts: int = 0
    open_transaction_seconds: float = 0.0

    def add(self, results: Sequence[PairResult]) -> None:
        """Count one round."""
        self.rounds += 1
        self.keys_compared += sum(result.compared for result in results)
        self.verdicts.update(result.verdict for result in results)
        self.doubtful += [result for result in results if result.verdict is not Verdict.CONSISTENT]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; return 0 when something was compared under load and nothing was wrong or unknown, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long to compare (default 300)")
    parser.add_argument("--rate", type=float, default=20, help="orders per second over both pods (default 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    soak = run_soak(seconds=options.seconds, orders_per_second=options.rate)
    for result in soak.doubtful:
        print(f"{result.pair} in {result.pod} at cut {result.cut}: {result.verdict}. {result.reason}", file=sys.stderr)
        for found in result.sample[:5]:
            print(f"  {found}", file=sys.stderr)
    return report("soak", figures(soak), is_json=options.json)


def figures(soak: Soak) -> list[Figure]:
    """Return what a run saw as figures; a run in which nothing happened misses its goals."""

    made = soak.verdicts.total()
    return [
        Figure(name="time", value=soak.seconds, unit="s"),
        Figure(name="rounds over all pairs and pods", value=soak.rounds, unit=""),
        _some("comparisons made", made),
        _some("keys compared", soak.keys_compared),
        _some("orders placed meanwhile", soak.orders_placed),
        Figure(name="relays killed", value=soak.relay_restarts, unit=""),
        Figure(name="a transaction left open for", value=soak.open_transaction_seconds, unit="s"),
        *(_verdict(verdict, soak.verdicts[verdict]) for verdict in Verdict),
    ]


def _some(name: str, value: int) -> Figure:
    return Figure(name=name, value=value, unit="", goal="> 0", is_met=value > 0)


def _verdict(verdict: Verdict, number: int) -> Figure:
    if verdict in FALSE:
        return Figure(name=f"verdict {verdict}", value=number, unit="", goal="= 0", is_met=number == 0)
    return Figure(name=f"verdict {verdict}", value=number, unit="")


def run_soak(*, seconds: float, orders_per_second: float) -> Soak:
    """Start servers, workers and traffic, compare everything for `seconds`, stop all; the last round is finished."""
    soak = Soak()
    with _selling(orders_per_second) as settings, warm_builder(settings) as builder:
        context = build_reconcile_context(settings, build=builder.build_to)
        before, started = _orders(settings), time.monotonic()
        disturbance = threading.Thread(target=_disturb, args=(settings, seconds, soak), daemon=True)
        disturbance.start()
        while soak.rounds == 0 or time.monotonic() < started + seconds:
            soak.add(run_pairs(context))
        disturbance.join()
        soak.orders_placed = _orders(settings) - before
        soak.seconds = time.monotonic() - started
    return soak


def _disturb(settings: Settings, seconds: float, soak: Soak) -> None:
    """Leave a transaction open for half of the time, and kill a relay in the middle of it."""
    quarter = seconds / 4
    pause = threading.Event()
    pause.wait(quarter)
    with psycopg.connect(settings.pods[0].app_dsn) as connection:
        # It has a transaction id from now on: every snapshot until its end has it in progress.
        connection.execute("select pg_current_xact_id()")
        opened = time.monotonic()
        pause.wait(quarter)
        soak.relay_restarts += _kill_relay(settings, settings.pods[0])
        pause.wait(quarter)
    soak.open_transaction_seconds = time.monotonic() - opened


def _kill_relay(settings: Settings, pod: PodSettings) -> int:
    for worker in Supervisor(var_dir=settings.var_dir).states():
        if worker.name == f"relay-{pod.pod}" and worker.process_id is not None:
            os.kill(worker.process_id, signal.SIGKILL)
            return 1
    return 0


def _orders(settings: Settings) -> int:
    """Return how many orders were placed in all pods."""
    total = 0
    for pod in settings.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            row = connection.execute("select count(*) from oltp.orders").fetchone()
            total += int(row[0]) if row else 0
    return total


@contextmanager
def _selling(orders_per_second: float) -> Iterator[Settings]:
    """Run a system, and give its settings once orders are placed."""
    with running_system(orders_per_second=orders_per_second) as settings:
        wait_until(
            lambda: _orders(settings) > 0,
            timeout_seconds=START_SECONDS_MAX,
            failure=lambda: f"No order was placed in {START_SECONDS_MAX:.0f} s.",
        )
        yield settings


if __name__ == "__main__":
    try:
        sys.exit(main())
    except StackError as error:
        sys.exit(f"soak: {error}")
