"""The throughput of the copies: applying the log, and rebuilding from the lake.

Belongs here: log -> lake, log -> read models, lake -> read models, each with a reference in the same run. Does not
belong here: outbox -> log (`bench/relay.py`). Run ``python -m bench.derived --orders 20000``; an order has seven events
(reservation, order, payment, capture, and their changes when it is shipped).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

import msgspec
import psycopg
import pyarrow as pa

from bench.derived_events import NOW, PARTITIONS, batches_of
from bench.figures import Figure, measured
from bench.servers import own_postgres, own_valkey
from contracts.ids import PARTITION_FUNCTION
from contracts.ownership import READ_MODELS
from contracts.settings import Settings
from derived.keyed import decoding
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.keyed.rows import Root
from derived.keyed.together import rebuild_together
from derived.lake import LakeProjection, connect_lake, migrate_lake
from derived.read_models import migrate
from derived.read_models.known import all_roots, roots_of
from stack.composition.projections import VIEWS, build_projection
from streams import codec
from streams.consumer import Consumer
from streams.cuts import Cut
from streams.projection import Projection
from streams.publishing import CutPublication
from streams.valkey_log import ValkeyLog
from tests.values import pod_without_server, settings_of

POD = "bench"
EPOCH = "1:1:1"
CHUNK_ROWS = 10_000


def measure(*, orders: int = 20_000, lines: int = 5) -> list[Figure]:
    """Start servers, fill a log, measure each projection and the rebuilds, stop the servers; return the figures."""
    with _stores() as settings:
        log = ValkeyLog(settings.log_url)
        batches = list(batches_of(orders, lines))
        _publish(log, batches)
        events = sum(batch.num_rows for batch in batches)
        figures = _lake(settings, log, batches, events)
        figures += _read_models(settings, log, batches, events)
        figures += _rebuild(settings, events)
        log.close()
    return figures


# What is measured


def _lake(settings: Settings, log: ValkeyLog, batches: Sequence[pa.RecordBatch], events: int) -> list[Figure]:
    reference = events / _seconds(lambda: _bulk_insert(settings, batches))
    rate, cpu = _follow(LakeProjection(settings.catalog_dsn, settings.lake_data_path), log, events)
    return [
        Figure(name="reference: DuckLake bulk insert of the same events", value=reference, unit="events/s"),
        Figure(name="log -> lake", value=rate, unit="events/s"),
        Figure(name="log -> lake, CPU", value=cpu, unit="us/event"),
        Figure(name="ratio", value=rate / reference, unit="", goal=">= 0.5", is_met=rate / reference >= 0.5),
    ]


def _bulk_insert(settings: Settings, batches: Sequence[pa.RecordBatch]) -> None:
    with connect_lake(settings.catalog_dsn, settings.lake_data_path) as connection:
        connection.execute("create table lake.main.reference as select *, 0 as chunk from lake.raw.events limit 0")
        connection.execute(
            "alter table lake.main.reference set partitioned by (pod, year(recorded_at), month(recorded_at), "
            "day(recorded_at))"
        )
        names = ", ".join(f'"{name}"' for name in codec.STORED_SCHEMA.names)
        connection.register("incoming", pa.Table.from_batches(batches))
        connection.execute(
            f"""insert into lake.main.reference (pod, epoch, cut, "partition", chunk, {names})
                select '{POD}', '{EPOCH}', 1, "partition", 0, {names} from incoming"""
        )


def _read_models(settings: Settings, log: ValkeyLog, batches: Sequence[pa.RecordBatch], events: int) -> list[Figure]:
    figures = []
    total_seconds = reference_seconds = 0.0
    for copy in READ_MODELS:
        view = build_projection(copy.name, settings)
        copied = _copy_rows(settings, roots_of(copy), batches)
        rate, cpu = _follow(view, log, events)
        view.close()
        total_seconds, reference_seconds = total_seconds + events / rate, reference_seconds + copied
        figures += [
            Figure(name=f"log -> {view.name}", value=rate, unit="events/s"),
            Figure(name=f"log -> {view.name}, CPU", value=cpu, unit="us/event"),
            Figure(name=f"reference: COPY of {view.name}'s rows of all events", value=events / copied, unit="events/s"),
        ]
    ratio = reference_seconds / total_seconds
    return [*figures, Figure(name="ratio, both", value=ratio, unit="", goal=">= 0.15", is_met=ratio >= 0.15)]


def _copy_rows(settings: Settings, roots: Sequence[Root], batches: Sequence[pa.RecordBatch]) -> float:
    """Return the seconds of a plain COPY of the decoded rows of every version into tables with the same indexes."""
    seconds = 0.0
    with psycopg.connect(settings.read_models_dsn, autocommit=True) as connection:
        for root in roots:
            for table, rows in _rows_of_every_version(root, batches).items():
                copy = f"reference_{table}"
                connection.execute(f"create table {copy} (like read_models.{table} including indexes)".encode())
                # Every version is a row here, so the key's index must not be unique.
                connection.execute(f"alter table {copy} drop constraint {copy}_pkey".encode())
                connection.execute(f"create index on {copy} ({', '.join(root.key_columns)})".encode())
                seconds += _seconds(partial(_copy, connection, copy, rows))
    return seconds


def _rows_of_every_version(root: Root, batches: Sequence[pa.RecordBatch]) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of the root's aggregates and of their children, by table."""
    rows: list[tuple[object, ...]] = []
    children: list[tuple[object, ...]] = []
    for batch in batches:
        table = codec.placed(pa.Table.from_batches([batch]), pod=POD, epoch=EPOCH, cut=1, partition=0)
        for index in range(table.num_rows):
            found = decoding.content(root, decoding.latest_events(root, [table.slice(index, 1)]))
            rows += map(msgspec.structs.astuple, found.rows)
            children += map(msgspec.structs.astuple, found.children)
    return {root.table: rows} | ({root.child.table: children} if root.child else {})


def _copy(connection: psycopg.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    with connection.cursor().copy(f"copy {table} from stdin".encode()) as copy:
        for row in rows:
            copy.write_row(row)


def _rebuild(settings: Settings, events: int) -> list[Figure]:
    """Rebuild all views together: first emptied, then intact."""
    _rebuild_views(settings, events)  # imports the modules that a running process has already imported
    _lose_views(settings)
    (lost, cpu), (over, _) = (_rebuild_views(settings, events) for _ in range(2))
    return [
        Figure(
            name="lake -> all read models, lost and rebuilt",
            value=lost,
            unit="events/s",
            goal=">= 50,000",
            is_met=lost >= 50_000,
        ),
        Figure(name="the same, CPU of all", value=cpu, unit="us/event"),
        Figure(name="lake -> all read models, rebuilt over what is there", value=over, unit="events/s"),
    ]


def _rebuild_views(settings: Settings, events: int) -> tuple[float, float]:
    """Return events per second and CPU microseconds per event."""
    views = [cast("KeyedProjection", build_projection(name, settings)) for name in VIEWS]
    began, used = time.perf_counter(), time.process_time()
    done = rebuild_together(views, POD, lake_opener(settings))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    for view in views:
        view.close()
    if failures := [result for result in done.values() if isinstance(result, Exception)]:
        raise failures[0]
    return events / seconds, cpu_seconds / events * 1e6


def _lose_views(settings: Settings) -> None:
    """Empty every table of all views; their positions stay."""
    tables = [table for root in all_roots() for table in root.tables]
    with psycopg.connect(settings.read_models_dsn) as connection:
        connection.execute(f"truncate {', '.join(f'read_models.{table}' for table in tables)}".encode())


def _follow(projection: Projection, log: ValkeyLog, events: int) -> tuple[float, float]:
    """Return events per second and CPU microseconds per event of one drain."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    result = Consumer(projection, POD, log).drain()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert result.events == events, f"applied {result.events} of {events} events"
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return events / seconds, cpu_seconds / events * 1e6


def _seconds(body: Callable[[], object]) -> float:
    started = time.perf_counter()
    body()
    return time.perf_counter() - started


# Servers and data


@contextmanager
def _stores() -> Iterator[Settings]:
    with own_postgres("bench_lake", "bench_read_models") as (postgres, folder), own_valkey(folder) as valkey:
        settings = settings_of(
            folder,
            pods=[pod_without_server(POD)],
            catalog_dsn=postgres.superuser_dsn("bench_lake"),
            read_models_dsn=postgres.superuser_dsn("bench_read_models"),
            log_url=valkey.url(),
            lake_data_path=str(folder / "lake"),
            partition_count=PARTITIONS,
        )
        migrate_lake(
            settings.catalog_dsn, settings.lake_data_path, pods=[POD], partition_count=settings.partition_count
        )
        migrate(settings.read_models_dsn)
        yield settings


def _publish(log: ValkeyLog, batches: Sequence[pa.RecordBatch]) -> None:
    for number, batch in enumerate(batches, start=1):
        cut = Cut(
            cut=number,
            epoch=EPOCH,
            snapshot="1:1:",
            registered_at=NOW,
            partition_function=PARTITION_FUNCTION,
            partition_count=PARTITIONS,
            chunk_rows=CHUNK_ROWS,
            codec="arrow-ipc",
        )
        publication = CutPublication(pod=POD, cut=cut, generation=0)
        for entries in publication.add(batch):
            log.append(POD, entries)
        log.append(POD, publication.finish())
        log.append_manifest(POD, publication.manifest(NOW))


if __name__ == "__main__":
    sys.exit(measured(measure, orders="orders, each of seven events", lines="lines of an order"))
