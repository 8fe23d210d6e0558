"""The cost of an incremental comparison relative to a complete one, and the memory of both as the data grows.

    python -m bench.compare_changes [--orders N ...] [--rounds N] [--json]

Orders with two lines each are compared with the fold of a real lake's events (the pair `oltp_lake.order`): first
completely; then 1 % new orders are placed, and only the changes and ten minutes' part of the sweep are compared.
Belongs here: this ratio, and the peak memory of both at several sizes. Does not belong here: the reference for a
complete comparison (`bench/compare.py`). Servers are started for the run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import psycopg
from sqlalchemy import create_engine
from sqlalchemy.schema import CreateIndex, CreateTable

from bench.figures import Figure, report
from bench.servers import own_postgres
from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.scope import KeyRange
from contracts.verdicts import Verdict
from derived.lake import connect_lake, migrate_lake
from oltp.store.tables import SCHEMA, metadata
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.entities import AGGREGATE_ID, entities_of
from reconcile.oltp_side import Query, left_name, read_queries, select_entity, snapshot_cursor
from reconcile.scratch import scratch, table
from reconcile.sweep import PACE, SweepPlan
from streams.cuts import CutShape, take_reconciler_cut

PAIR = "oltp_lake.order"
SIZES = (100_000, 500_000)
CHANGED_SHARE = 0.01
PERIOD_SECONDS = 600
GOAL_RATIO = 0.25
GOAL_GROWTH = 1.3
GOAL_MEMORY_RATIO = 1.15
"""Both comparisons have the same memory limit: an incremental one needs at most the memory of a complete one."""
CUT_SHAPE = CutShape(partition_count=4, chunk_rows=10_000)
TABLES = (
    *("cuts", "epochs", "outbox", "orders", "order_lines", "order_tax_lines", "order_line_taxes", "order_discounts"),
    *("payments", "refunds", "merchants", "residents"),
)
EPOCH = "bench"
FILLED_AT_ONCE = 50_000
FILL_MEMORY_MB = 1_000

ORDERS = """
insert into oltp.orders
select uuidv7(), 'merchant-' || (number %% 40), 1, 'A' || number, 'customer-' || (number %% 9000), 'GBP', 'placed',
       'generator', gen_random_uuid(), 1000 + number %% 977, 499, 0, 0, (1000 + number %% 977) / 6, number %% 5000,
       1499 + number %% 977, 0, 0,
       timestamptz '2024-01-01 00:00:00+00' + number * interval '31 seconds'
from generate_series(%(first)s::bigint, %(last)s) as number
"""
LINES = """
insert into oltp.order_lines
select gen_random_uuid(), o.order_id, o.merchant_id, line, 'goods', gen_random_uuid(), 'SKU-' || line, 'Tea things', 3,
       2555000, 'catalog', null, 500, 0, 0, 500, 0, 0, 0, 0, 0
from oltp.orders as o cross join generate_series(1, 2) as line
where not exists (select from oltp.order_lines as l where l.order_id = o.order_id)
"""
OUTBOX = """
insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,
                         schema_version, occurred_at, correlation_id, payload)
select gen_random_uuid(), merchant_id, 'order', order_id::text, 1, 'order_placed', 1, placed_at, gen_random_uuid(), '{}'
from oltp.orders where order_number = any(select 'A' || generate_series(%(first)s::bigint, %(last)s))
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A pod with orders and a lake with their events."""

    dsn: str
    catalog: str
    lake: str
    cut: int
    """The cut at which both agree before any change."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One comparison in its own process."""

    seconds: float
    memory_mb: float
    compared: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 when every goal is met, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare_changes", description=__doc__)
    parser.add_argument("--orders", type=int, nargs="*", default=list(SIZES), help="sizes, e.g. 100000 500000 2000000")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians count (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    return report("compare_changes", measure(sizes=options.orders, rounds=options.rounds), is_json=options.json)


def measure(*, sizes: Sequence[int] = SIZES, rounds: int = 3) -> list[Figure]:
    """Compare at every size, completely and incrementally; return the figures."""
    figures: list[Figure] = []
    peaks = []
    for orders in sizes:
        with _place(orders) as place:
            complete = [_in_process(place, None) for _ in range(rounds)]
            changed = _change(place, orders)
            plan = SweepPlan(
                since_cut=place.cut,
                parts=(KeyRange(),),
                cut_parts=(),
                share=PERIOD_SECONDS / (PACE * SWEEP_SECONDS_MAX),
            )
            some = [_in_process(place, plan) for _ in range(rounds)]
            figures += _figures(orders, changed, complete, some)
            peaks.append(max(sample.memory_mb for sample in complete))
    growth = peaks[-1] / peaks[0]
    name = f"peak memory, {sizes[-1]:,} against {sizes[0]:,} orders"
    is_met = growth <= GOAL_GROWTH
    return [*figures, Figure(name=name, value=growth, unit="", goal=f"<= {GOAL_GROWTH}", is_met=is_met)]


def _figures(orders: int, changed: int, complete: Sequence[Sample], some: Sequence[Sample]) -> list[Figure]:
    whole, part = (statistics.median(sample.seconds for sample in samples) for samples in (complete, some))
    whole_mb, part_mb = (max(sample.memory_mb for sample in samples) for samples in (complete, some))
    label = f"{orders:,} orders"
    return [
        Figure(name=f"{label}: complete", value=whole, unit="s"),
        Figure(name=f"{label}: complete, peak memory", value=whole_mb, unit="MB"),
        Figure(name=f"{label}: after {changed:,} new ones, incremental", value=part, unit="s"),
        Figure(name=f"{label}: incremental, keys compared", value=some[0].compared, unit="keys"),
        Figure(name=f"{label}: incremental, peak memory", value=part_mb, unit="MB"),
        Figure(
            name=f"{label}: incremental against complete",
            value=part / whole,
            unit="",
            goal=f"<= {GOAL_RATIO}",
            is_met=part / whole <= GOAL_RATIO,
        ),
        Figure(
            name=f"{label}: incremental against complete, peak memory",
            value=part_mb / whole_mb,
            unit="",
            goal=f"<= {GOAL_MEMORY_RATIO}",
            is_met=part_mb / whole_mb <= GOAL_MEMORY_RATIO,
        ),
    ]


@contextmanager
def _place(orders: int) -> Iterator[Place]:
    with own_postgres("bench_pod", "bench_catalog") as (postgres, folder):
        dsn, catalog = postgres.superuser_dsn("bench_pod"), postgres.superuser_dsn("bench_catalog")
        lake = f"{folder / 'lake'}/"
        migrate_lake(catalog, lake, pods=["pod1"], partition_count=CUT_SHAPE.partition_count)
        engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
        with engine.begin() as connection:
            connection.exec_driver_sql(f"create schema {SCHEMA}")
            for made in (metadata.tables[f"{SCHEMA}.{name}"] for name in TABLES):
                # No foreign keys, because the referenced tables do not exist here.
                connection.execute(CreateTable(made, include_foreign_key_constraints=[]))
                for index in made.indexes:
                    connection.execute(CreateIndex(index))
        engine.dispose()
        yield Place(dsn=dsn, catalog=catalog, lake=lake, cut=_add(dsn, catalog, lake, 1, orders))


def _change(place: Place, orders: int) -> int:
    """Place new orders, and write their events to the lake; return their number."""
    number = max(int(orders * CHANGED_SHARE), 1)
    _add(place.dsn, place.catalog, place.lake, orders + 1, orders + number)
    return number


def _add(dsn: str, catalog: str, lake: str, first: int, last: int) -> int:
    """Add orders with their events to the pod and to the lake, in a new cut; return the cut."""
    with psycopg.connect(dsn, autocommit=True) as pod:
        # Disable triggers and foreign keys, because they are not measured.
        pod.execute("set session_replication_role = replica")
        pod.execute(ORDERS, {"first": first, "last": last})
        pod.execute(LINES)
        pod.execute(OUTBOX, {"first": first, "last": last})
        pod.execute("vacuum (analyze)")
    process = multiprocessing.get_context("spawn").Process(target=_fill_lake, args=(dsn, catalog, lake, first, last))
    with take_reconciler_cut(dsn, CUT_SHAPE, registered_by="bench") as cut:
        process.start()
        process.join()
        assert process.exitcode == 0
        return cut.cut


def _fill_lake(dsn: str, catalog: str, lake: str, first: int, last: int) -> None:
    root, lines, *_ = entities_of("order")
    with (
        connect_lake(catalog, lake) as connection,
        scratch(connection, memory_limit_mb=FILL_MEMORY_MB) as ready,
        snapshot_cursor(dsn) as cursor,
    ):
        for begin in range(first, last + 1, FILLED_AT_ONCE):
            numbers = f"(select 'A' || generate_series({begin:d}, {min(begin + FILLED_AT_ONCE - 1, last):d}))"
            chosen = f"(select order_id from oltp.orders where order_number = any({numbers}))"
            queries = {
                entity.shape.name: Query(sql=f"{select_entity(entity).sql} where t.order_id in {chosen}")
                for entity in (root, lines)
            }
            read_queries(
                ready, cursor, "pod1", {**queries, "newest": Query(sql="select max(cut) as cut from oltp.cuts")}
            )
            _write_events(ready, first=begin)


def _write_events(ready: duckdb.DuckDBPyConnection, first: int) -> None:
    root, lines, *_ = entities_of("order")
    in_lines = ", ".join(f"'{column.name}': l.{column.name}" for column in lines.fields)
    in_state = ", ".join(f"'{column.name}': o.{column.name}" for column in root.fields)
    orders, parts, newest = (table(left_name("pod1", name)) for name in (root.shape.name, lines.shape.name, "newest"))
    ready.execute(
        f"""insert into lake.raw.events
            with part as (
                select l.{AGGREGATE_ID}, list({{{in_lines}}}) as lines from {parts} as l group by l.{AGGREGATE_ID}
            )
            select 'pod1', $epoch, n.cut, 0, $first + row_number() over (), uuid()::varchar, o.merchant_id,
                   'order', o.{AGGREGATE_ID}, 1, 'order_placed', 1, o.placed_at, $now, null, uuid()::varchar, null,
                   to_json(
                       {{'state': {{{in_state}, 'lines': part.lines, 'discounts': [], 'line_taxes': []}}}}
                   )::varchar, 0, 1
            from {orders} as o join part on part.{AGGREGATE_ID} = o.{AGGREGATE_ID}, {newest} as n
            order by o.{AGGREGATE_ID}""",
        {"epoch": EPOCH, "now": datetime.now(UTC), "first": first},
    )


def _in_process(place: Place, plan: SweepPlan | None) -> Sample:
    """Compare in a new process, so that its peak memory is measured alone."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_compared, (place, plan))


def _compared(place: Place, plan: SweepPlan | None) -> Sample:
    def open_lake() -> duckdb.DuckDBPyConnection:
        return connect_lake(place.catalog, place.lake, read_only=True)

    context = ReconcileContext(
        pods={"pod1": place.dsn},
        take_cut=lambda pod: take_reconciler_cut(place.dsn, CUT_SHAPE, registered_by="bench"),
        open_lake=open_lake,
        lake_cut=lambda connection, pod: 1_000_000,
        scrub=str,
        now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        sleep=time.sleep,
    )
    started = time.perf_counter()
    (result,) = run_pairs(context, [PAIR], plans={"pod1": plan} if plan else {})
    seconds = time.perf_counter() - started
    assert result.verdict is Verdict.CONSISTENT, json.dumps(result.as_json(), default=str)[:2000]
    assert result.is_whole == (plan is None), "it looked at something else than it was asked to"
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Sample(seconds=seconds, memory_mb=memory_mb, compared=result.compared)


if __name__ == "__main__":
    sys.exit(main())
