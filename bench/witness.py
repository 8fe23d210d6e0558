"""What the witness of OLTP costs, relative to the commands that it watches.

    python -m bench.witness [--orders N] [--rounds N] [--json]

In each round orders of three lines are placed, and the witness then reads their part of the write-ahead log. Compared
is the CPU time of PostgreSQL and of Python for both. Belongs here: this ratio. Not in it: the longer records of the log
that `wal_level = logical` and whole old rows cause, which are part of the commands' own time. A server is started for
the run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

import psutil
import psycopg

from bench.commands import bench_pod, open_shop, place
from bench.figures import Figure, report
from contracts.settings import PodSettings
from oltp.commands.execute import CommandPod, build_command_pod, execute
from reconcile.sightings import migrate as migrate_sightings
from witness.oltp import OltpWitness

GOAL_SHARE = 0.05
SKUS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; exit code 1 if the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.witness", description=__doc__)
    parser.add_argument("--orders", type=int, default=200, help="per round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with bench_pod() as pod:
        figures = measure(pod, orders=options.orders, rounds=options.rounds)
    return report("witness", figures, is_json=options.json)


def measure(pod: PodSettings, *, orders: int, rounds: int) -> list[Figure]:
    """Return the CPU time per order of the commands and of the witness, and the ratio of both (medians of rounds)."""
    # The tables of sightings stand in the pod's own database here: one server is enough to measure.
    migrate_sightings(pod.owner_dsn)
    witness = OltpWitness(pod=pod.pod, dsn=pod.witness_dsn, control_dsn=pod.owner_dsn)
    placing, looking = [], []
    with build_command_pod(pod) as commands, closing(witness), psycopg.connect(pod.owner_dsn) as connection:
        row = connection.execute("select pg_backend_pid()").fetchone()
        assert row is not None
        server = psutil.Process(int(row[0])).parent()
        assert server is not None
        open_shop(commands, SKUS)
        # The first looks make the slot and open the connections.
        for _ in range(2):
            witness.look_once()
        for number in range(rounds):
            placing.append(_cpu_seconds(server, partial(_place, commands, number, orders)))
            looking.append(_cpu_seconds(server, witness.look_once))
    order_seconds, look_seconds = statistics.median(placing) / orders, statistics.median(looking) / orders
    share = look_seconds / order_seconds
    return [
        Figure(name="CPU per order", value=order_seconds * 1e6, unit="us"),
        Figure(name="CPU of the witness per order", value=look_seconds * 1e6, unit="us"),
        Figure(name="ratio", value=share, unit="", goal=f"< {GOAL_SHARE}", is_met=share < GOAL_SHARE),
    ]


def _place(commands: CommandPod, number: int, orders: int) -> None:
    for order in range(orders):
        name = f"{number}-{order}"
        execute(commands, place(list(range(SKUS)), name), idempotency_key=name)


def _cpu_seconds(server: psutil.Process, work: Callable[[], object]) -> float:
    before = _server_seconds(server) + time.process_time()
    work()
    return _server_seconds(server) + time.process_time() - before


def _server_seconds(server: psutil.Process) -> float:
    """Return the CPU time of all processes of the server, those that have ended included."""
    own = server.cpu_times()
    living = sum(sum(child.cpu_times()[:2]) for child in server.children())
    return float(own.children_user + own.children_system + living)


if __name__ == "__main__":
    sys.exit(main())
