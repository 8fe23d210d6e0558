"""One hot SKU against many: orders per second of 32 clients who all buy one thing, its stock spread over slots.

    python -m bench.hot_stock [--seconds N] [--rounds N] [--skus N] [--json]

Belongs here: the same load over one counter, over a spread level, and over many SKUs, in turns within one run, each
with its processor time; and that what was sold is what is counted. Does not belong here: other loads
(`bench/commands.py`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from statistics import median

import psycopg

from bench.commands import LOCATION, MERCHANT, Load, bench_pod_with_server, open_shop, orders_per_second, variant_id_of
from bench.figures import Figure, measured
from bench.processor import cost_of
from contracts.ids import uuid7
from contracts.settings import PodSettings
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.spread_stock import SpreadStock
from stack.servers.postgres import EmbeddedPostgres

GOAL = 1.0
"""A hot SKU sells as fast as many others."""

_EXACT = """
select (select count(*) from oltp.orders) - (select sum(reserved) from oltp.stock_slots),
    (select count(*) from oltp.stock_identity_violations)
"""


@dataclass(kw_only=True)
class Measured:
    """The rounds of one load."""

    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)


def measure(*, seconds: float = 5.0, rounds: int = 3, skus: int = 1_000) -> list[Figure]:
    """Return the medians, their ratios, and whether stock is exact."""
    found = {name: Measured() for name in ("many", "spread", "one counter")}
    with bench_pod_with_server() as (settings, server), build_command_pod(settings) as pod:
        open_shop(pod, skus)
        _sell(settings, server, Measured(), skus=skus, seconds=1.0)
        for _ in range(rounds):
            _sell(settings, server, found["many"], skus=skus, seconds=seconds)
            _spread(pod, is_spread=True)
            _sell(settings, server, found["spread"], skus=1, seconds=seconds)
            _spread(pod, is_spread=False)
            _sell(settings, server, found["one counter"], skus=1, seconds=seconds)
        with psycopg.connect(settings.reader_dsn) as connection:
            unsold, violations = connection.execute(_EXACT).fetchone() or (1, 1)
    return [*_figures(found, skus), _exact(int(unsold), int(violations))]


def _sell(settings: PodSettings, server: EmbeddedPostgres, into: Measured, *, skus: int, seconds: float) -> None:
    rates: list[float] = []
    load = Load(clients=32, processes=2, lines=1, skus=skus, seconds=seconds)
    cost = cost_of(server, lambda: rates.append(orders_per_second(settings, load)))
    into.per_second += rates
    into.cpu_us.append((cost.client + cost.server) / (rates[0] * seconds) * 1e6)


def _spread(pod: CommandPod, *, is_spread: bool) -> None:
    command = SpreadStock(merchant_id=MERCHANT, location_id=LOCATION, variant_id=variant_id_of(0), is_spread=is_spread)
    execute(pod, command, idempotency_key=str(uuid7()))


def _figures(found: dict[str, Measured], skus: int) -> list[Figure]:
    works = {"many": f"32 clients, {skus:,} SKUs", "spread": "the same, one SKU, its stock spread over slots"}
    works["one counter"] = "the same, one SKU, one counter"
    figures = []
    for name, work in works.items():
        figures.append(Figure(name=work, value=median(found[name].per_second), unit="orders/s"))
        figures.append(Figure(name=f"{work}: processor", value=median(found[name].cpu_us), unit="us/order"))
    # In turns: each round is compared with its own reference, so that other load on the machine cancels out.
    for name, goal in (("spread", f">= {GOAL}"), ("one counter", "")):
        pairs = zip(found[name].per_second, found["many"].per_second, strict=True)
        ratio = median(one / many for one, many in pairs)
        is_met = ratio >= GOAL if goal else None
        figures.append(Figure(name=f"ratio, {name}", value=ratio, unit="", goal=goal, is_met=is_met))
    return figures


def _exact(unsold: int, violations: int) -> Figure:
    wrong = abs(unsold) + violations
    return Figure(
        name="orders without their unit, identities broken", value=wrong, unit="", goal="= 0", is_met=wrong == 0
    )


if __name__ == "__main__":
    sys.exit(
        measured(
            measure,
            seconds="length of each measurement",
            rounds="measurements of each load, in turns",
            skus="SKUs of the reference",
        )
    )
