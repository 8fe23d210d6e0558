"""The time of an exact comparison of OLTP with a copy at a cut, compared with the simplest way to find differences.

    python -m bench.compare [--orders N] [--differences N ...] [--rounds N] [--json]

The reference, in the same run: read the same columns from PostgreSQL into DuckDB and full join them with the copy. The
comparison does the same read in a cut's snapshot, and also computes segments, sums, content hashes, difference classes
and the keys that differ. Belongs here: this benchmark, with the peak memory of both. Does not belong here: folding the
lake's events, or waiting for a copy. Servers are started for the run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import psycopg
from sqlalchemy import create_engine

from bench.figures import Figure, report
from bench.servers import own_postgres
from contracts.arrow import connect_arrow
from contracts.verdicts import DIFFERENCES_KEPT
from oltp.store.tables import SCHEMA, metadata
from reconcile.compare import Limits, compare
from reconcile.entities import entities_of
from reconcile.oltp_side import left_name, read_queries, select_entity, snapshot_cursor
from reconcile.scratch import MEMORY_LIMIT_MB, scratch, table
from reconcile.shapes import quoted
from streams.cuts import CutShape, take_reconciler_cut

ENTITY = entities_of("order")[0]
SHAPE = ENTITY.shape
CUT_SHAPE = CutShape(partition_count=4, chunk_rows=10_000)
GOAL_RATIO = 1.5
FAST_MEMORY_MB = 512
"""The memory limit (TIEOUT_COMPARISON_MEMORY_MB) for which the goal is defined. The default is half of it: then the
join of a million rows spills to disk, takes 1.5 times as long, and the whole process stays below 700 MB."""

# Orders of 40 merchants over a year, distributed evenly, because we measure volume only.
FILL = """
create table oltp.orders as
select gen_random_uuid() as order_id, 'merchant-' || (number %% 40) as merchant_id, 1 + number %% 3 as version,
       'A' || number as order_number, 'customer-' || (number %% 9000) as customer_id, 'GBP' as currency,
       'placed' as status, 'generator' as source, gen_random_uuid() as reservation_id,
       1000 + number %% 977 as lines_minor, 499::bigint as shipping_minor, 0::bigint as discount_minor,
       0::bigint as added_tax_minor,
       (1000 + number %% 977) / 6 as tax_minor, number %% 5000 as rounding_micro,
       1499 + number %% 977 as total_minor, 0::bigint as cancelled_minor, 0::bigint as cancelled_tax_minor,
       timestamptz '2024-01-01 00:00:00+00' + number * interval '31 seconds' as placed_at
from generate_series(1::bigint, %(orders)s) as number
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A pod with orders, and a DuckDB file with one table `copy_<differences>` per number of differences."""

    dsn: str
    copies: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One timed run in its own process."""

    seconds: float
    cpu_seconds: float
    memory_mb: float
    found: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return 0 when every goal is met, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000, help="orders compared (default 1,000,000)")
    parser.add_argument("--differences", type=int, nargs="*", default=[0, 100, 10_000], help="how many orders differ")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, alternating; medians count (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    return report(
        "compare",
        measure(orders=options.orders, differences=options.differences, rounds=options.rounds),
        is_json=options.json,
    )


def measure(*, orders: int = 1_000_000, differences: Sequence[int] = (0, 100, 10_000), rounds: int = 3) -> list[Figure]:
    """Start and fill a server, time both ways in turns for every number of differences; return the figures."""
    figures: list[Figure] = []
    with _place(orders, differences) as place:
        for number in differences:
            plain: list[Sample] = []
            ours: dict[int, list[Sample]] = {limit: [] for limit in (FAST_MEMORY_MB, MEMORY_LIMIT_MB)}
            for _ in range(rounds):
                plain.append(_in_process(_joined, place, number))
                for limit, samples in ours.items():
                    samples.append(_in_process(_compared, place, number, limit))
            figures += _figures(orders, number, ours, plain)
    return figures


def _figures(
    orders: int, differences: int, ours: Mapping[int, Sequence[Sample]], plain: Sequence[Sample]
) -> Iterator[Figure]:
    label = f"{orders:,} orders, {differences:,} differences"
    for sample in (*plain, *(sample for samples in ours.values() for sample in samples)):
        assert sample.found == differences, f"found {sample.found} of {differences} differences"
    reference = statistics.median(sample.seconds for sample in plain)
    yield from _costs(f"{label}: pull + full join", orders, plain)
    for limit, samples in ours.items():
        name = f"{label}: within {limit} MB"
        yield from _costs(name, orders, samples)
        ratio = statistics.median(sample.seconds for sample in samples) / reference
        has_goal = limit == FAST_MEMORY_MB
        yield Figure(
            name=f"{name}, ratio",
            value=ratio,
            unit="",
            goal=f"<= {GOAL_RATIO}" if has_goal else "",
            is_met=ratio <= GOAL_RATIO if has_goal else None,
        )


def _costs(name: str, orders: int, samples: Sequence[Sample]) -> list[Figure]:
    cpu_seconds = statistics.median(sample.cpu_seconds for sample in samples)
    return [
        Figure(name=name, value=statistics.median(sample.seconds for sample in samples), unit="s"),
        Figure(name=f"{name}, CPU", value=cpu_seconds / orders * 1e6, unit="us/row"),
        Figure(name=f"{name}, peak memory", value=max(sample.memory_mb for sample in samples), unit="MB"),
    ]


@contextmanager
def _place(orders: int, differences: Sequence[int]) -> Iterator[Place]:
    with own_postgres("bench_pod") as (postgres, folder):
        place = Place(dsn=postgres.superuser_dsn("bench_pod"), copies=str(folder / "copies.duckdb"))
        _fill(place.dsn, orders)
        _in_process(_write_copies, place, list(differences))
        yield place


def _fill(dsn: str, orders: int) -> None:
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create schema {SCHEMA}")
        metadata.create_all(connection, tables=[metadata.tables[f"{SCHEMA}.{name}"] for name in ("cuts", "epochs")])
    engine.dispose()
    with psycopg.connect(dsn, autocommit=True) as pod:
        pod.execute(FILL, {"orders": orders})
        pod.execute("alter table oltp.orders add primary key (order_id)")
        pod.execute("vacuum (analyze) oltp.orders")
        pod.execute("checkpoint")


def _write_copies(place: Place, differences: Sequence[int]) -> None:
    """Write one copy per number of differences: half are off by one minor unit, a quarter missing, a quarter extra."""
    with duckdb.connect(place.copies) as connection:
        connection.execute("set enable_progress_bar = false")
        _pull(connection, place.dsn, "whole")
        for number in differences:
            name = f"copy_{number}"
            connection.execute(f"create table {name} as from whole order by hash({SHAPE.key[0]})")
            off, missing = number // 2, number // 4
            extra = number - off - missing
            chosen = f"select {SHAPE.key[0]} from whole order by hash({SHAPE.key[0]}) limit"
            connection.execute(
                f"update {name} set total_minor = total_minor + 1 where {SHAPE.key[0]} in ({chosen} {off:d})"
            )
            connection.execute(f"delete from {name} where {SHAPE.key[0]} in ({chosen} {missing:d} offset {off:d})")
            connection.execute(
                f"insert into {name} select * replace (uuid()::VARCHAR as {SHAPE.key[0]}) from whole limit {extra:d}"
            )
        connection.execute("drop table whole")


def _pull(connection: duckdb.DuckDBPyConnection, dsn: str, name: str) -> None:
    with connect_arrow(dsn) as pod, pod.cursor() as cursor:
        cursor.execute(select_entity(ENTITY).sql)
        connection.register("incoming", cursor.fetch_record_batch())
        connection.execute(f"create table {name} as from incoming")
        connection.unregister("incoming")


def _in_process(body: Callable[..., Any], *arguments: Any) -> Any:
    """Run `body` in a new process, so that its peak memory is measured alone, and return its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(body, arguments)


def _timed(body: Callable[[], int]) -> Sample:
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    found = body()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Sample(seconds=seconds, cpu_seconds=cpu_seconds, memory_mb=after.ru_maxrss / 1024, found=found)


def _compared(place: Place, differences: int, memory_limit_mb: int) -> Sample:
    """Time the product's comparison: cut, read in its snapshot, levels, keys, classes, sample."""

    def body() -> int:
        with duckdb.connect() as connection, scratch(connection, memory_limit_mb=memory_limit_mb) as ready:
            ready.execute(f"attach '{place.copies}' as copies (read_only)")
            with (
                take_reconciler_cut(place.dsn, CUT_SHAPE, registered_by="bench") as cut,
                snapshot_cursor(place.dsn, cut.exported_snapshot) as cursor,
            ):
                read_queries(ready, cursor, "pod1", {SHAPE.name: select_entity(ENTITY)})
            left, right = table(left_name("pod1", SHAPE.name)), f"copies.main.copy_{differences:d}"
            # The same number of keys as a comparison lists for the ledger of breaks.
            outcome = compare(ready, SHAPE, left, right, Limits(sample=DIFFERENCES_KEPT))
            ready.execute("detach copies")
            return outcome.differences

    return _timed(body)


def _joined(place: Place, differences: int) -> Sample:
    """Time the reference: pull, one full join over all columns, count."""
    key = quoted(SHAPE.key[0])
    unequal = " or ".join(
        f"l.{quoted(column.name)} is distinct from r.{quoted(column.name)}" for column in SHAPE.columns
    )

    def body() -> int:
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set preserve_insertion_order = false")
            connection.execute("set enable_progress_bar = false")
            connection.execute(f"attach '{place.copies}' as copies (read_only)")
            _pull(connection, place.dsn, "pulled")
            rows = connection.execute(
                f"select count(*) from pulled as l full outer join copies.main.copy_{differences:d} as r "
                f"on l.{key} = r.{key} where l.{key} is null or r.{key} is null or {unequal}"
            ).fetchall()
            return int(rows[0][0])

    return _timed(body)


if __name__ == "__main__":
    sys.exit(main())
