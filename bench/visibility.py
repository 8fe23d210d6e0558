"""The latency from an order's commit to its row in the account view, with all workers running.

    python -m bench.visibility [--samples 300] [--json]

Belongs here: this latency, on a separate system under light load. Does not belong here: its first part, commit to log
(`bench/relay.py`); throughput (`bench/derived.py`).
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator

import psycopg

from bench.commands import MERCHANT, open_shop, place
from bench.figures import Figure, measured
from bench.world import running_system
from contracts.settings import Settings
from oltp.commands.execute import build_command_pod, execute

SKUS = 20
ORDERS_OF = "select order_id from read_models.account_orders where merchant_id = %s and customer_id = %s"
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.002
PAUSE_SECONDS_MAX = 0.1
"""Orders come one at a time at random intervals, so that the workers are idle and must be woken."""

GOAL_P99_MS = 500.0
UNCOUNTED = 10
"""Orders before the first measured one, because the workers' start is not measured."""


def measure(*, samples: int = 300) -> list[Figure]:
    """Start a system, time `samples` orders, stop it; return the figures."""
    with running_system() as settings:
        times = sorted(_commit_to_view(settings, samples))
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    name = "commit -> visible in the account view"
    return [
        Figure(name=f"{name}, p50", value=p50, unit="ms"),
        Figure(name=f"{name}, p99", value=p99, unit="ms", goal="< 500", is_met=p99 < GOAL_P99_MS),
    ]


def _commit_to_view(settings: Settings, samples: int) -> Iterator[float]:
    """Place one order at a time, each by a new customer; yield the milliseconds until the view has its row."""
    rng = random.Random(1)
    # Use one connection for all polls, because opening connections would be most of the machine's work.
    reader = psycopg.connect(settings.read_models_dsn, autocommit=True)
    with reader, build_command_pod(settings.pods[0]) as pod:
        open_shop(pod, SKUS)
        for number in range(samples + UNCOUNTED):
            time.sleep(rng.random() * PAUSE_SECONDS_MAX)
            customer = f"customer-{number}"
            command = place([number % SKUS], f"order-{number}", customer_id=customer)
            execute(pod, command, idempotency_key=customer)
            committed = time.perf_counter()
            _wait_for_order(reader, customer, committed)
            if number >= UNCOUNTED:
                yield (time.perf_counter() - committed) * 1_000


def _wait_for_order(reader: psycopg.Connection, customer: str, committed: float) -> None:
    while not reader.execute(ORDERS_OF, (MERCHANT, customer)).fetchone():
        assert time.perf_counter() - committed < PATIENCE_SECONDS, "the account view does not get the order"
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(measured(measure, samples="orders timed"))
