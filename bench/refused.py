"""What it costs to find and park events that a read model's database refuses.

Belongs here: the processor time, of PostgreSQL and of Python, of one step with many refused orders, and of one with a
single refused order among as many. Does not belong here: events that are accepted (`bench/derived.py`). Run
``python -m bench.refused --orders 10000``; a server is started for the run.
"""

from __future__ import annotations

import sys
from contextlib import closing
from functools import partial

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from bench.derived_events import NOW, batches_of
from bench.figures import Figure, measured
from bench.processor import Cost, cost_of
from bench.servers import own_postgres
from contracts.ownership import READ_MODELS
from derived.read_models import migrate
from derived.read_models.known import roots_of
from stack.composition.projections import build_projection
from streams import codec
from streams.parking import apply_parking
from streams.projection import START, Entry, Position, Projection, Work
from tests.values import settings_of

EPOCH = "1:1:1"
VIEW = READ_MODELS[0]
(ROOT,) = (root for root in roots_of(VIEW) if root.aggregate_type == "order")
TABLE, ORDER_ID = f"read_models.{ROOT.table}", ROOT.key_columns[1]
REFUSE = f"alter table {TABLE} add constraint refuses check ({{condition}})"
ACCEPT = f"alter table {TABLE} drop constraint refuses"


def measure(*, orders: int = 10_000) -> list[Figure]:
    """Return the processor time per event of a step whose orders are all refused, one of them, or none."""
    events = _placed_orders(orders)
    chosen = str(events.column("aggregate_id")[orders // 2].as_py())
    conditions = {"all are refused": "false", "one is refused": f"{ORDER_ID} <> '{chosen}'", "none is refused": "true"}
    figures = []
    with own_postgres("bench_read_models") as (postgres, folder):
        settings = settings_of(folder, pods=(), read_models_dsn=postgres.superuser_dsn("bench_read_models"))
        migrate(settings.read_models_dsn)
        for number, (name, condition) in enumerate(conditions.items()):
            with closing(build_projection(VIEW.name, settings)) as view:
                view.state("")  # opens the connection
                with psycopg.connect(settings.read_models_dsn) as connection:
                    connection.execute(f"truncate {TABLE}".encode())
                    connection.execute(REFUSE.format(condition=condition).encode())
                work = partial(_apply, view, _step(events, f"pod{number}"))
                figures += _figures(name, cost_of(postgres, work), orders)
                with psycopg.connect(settings.read_models_dsn) as connection:
                    connection.execute(ACCEPT)
    return figures


def _placed_orders(orders: int) -> pa.Table:
    """Return the first event of each of so many orders."""
    events = pa.Table.from_batches(list(batches_of(orders, lines=1)))
    is_first = pc.and_(
        pc.equal(events.column("aggregate_type"), "order"), pc.equal(events.column("aggregate_version"), 1)
    )
    return events.filter(is_first)


def _step(events: pa.Table, pod: str) -> Work:
    placed = codec.placed(events, pod=pod, epoch=EPOCH, cut=1, partition=0)
    return Work(
        pod=pod,
        epoch=EPOCH,
        entries=[Entry(pod=pod, epoch=EPOCH, partition=0, cut=1, chunk=0, events=placed)],
        expected={0: START},
        positions={0: Position(cut=1, chunk=0)},
        data_at=NOW,
    )


def _apply(view: Projection, work: Work) -> None:
    apply_parking(view, work, (), lambda: NOW)


def _figures(name: str, cost: Cost, events: int) -> list[Figure]:
    return [
        Figure(name=f"{name}: {where}, CPU", value=seconds / events * 1e6, unit="us/event")
        for where, seconds in (("PostgreSQL", cost.server), ("Python", cost.client))
    ]


if __name__ == "__main__":
    sys.exit(measured(measure, orders="orders of one step"))
