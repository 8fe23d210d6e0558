"""The throughput of a relay from outbox to log in bulk, and its latency from commit to log under light load.

Belongs here: this benchmark and its references. Does not belong here: other benchmarks (one module each). Run ``python
-m bench.relay --events 500000``; use a smaller number for a quick run. Servers are started for the run.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import create_engine

from bench.figures import Figure, measured
from bench.servers import own_postgres, own_valkey
from oltp.store.tables import SCHEMA, cuts, epochs, metadata, outbox
from streams.cuts import BEFORE_ALL, Cut, CutShape, Snapshot, last_cut, look, register_cut
from streams.outbox_reading import EVENTS_OF_CUT, OutboxReader
from streams.relay import Relay
from streams.valkey_log import ValkeyLog

SHAPE = CutShape(partition_count=4, chunk_rows=10_000)
FILL_ROWS = 10_000
EVENTS_AFTER = 100_000

# About 600 bytes per event, like an order with four lines.
FILL = """
insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,
                         schema_version, occurred_at, correlation_id, payload)
select gen_random_uuid(), 'merchant-' || (number %% 40), 'order', gen_random_uuid()::text, 1, 'order_placed', 1,
       clock_timestamp(), gen_random_uuid(),
       ('{"state": {"order_id": "' || gen_random_uuid() || '", "lines": ['
        || repeat('{"sku": "A' || number || '", "quantity": 3, "unit_price_micro": 1250000},', 4)
        || '{}], "total_minor": ' || number || '}, "changed": ["state"]}')::json
from generate_series(1, %(rows)s) as number
"""


@dataclass(frozen=True, kw_only=True)
class Servers:
    """A PostgreSQL server with an outbox and a second database, and a Valkey server."""

    pod_dsn: str
    foreign_dsn: str
    log_url: str


def measure(*, events: int = 500_000, samples: int = 300) -> list[Figure]:
    """Start servers, measure throughput and both latencies, stop them; return the figures."""
    with _servers() as servers:
        figures = _throughput(servers, events)
        figures += _idle_cost(servers)
        figures += _latency(servers, samples, name="commit -> in the log")
        with _foreign_transactions(servers):
            figures += _latency(servers, samples, name="the same, a foreign transaction open")
        figures += _old_cut(servers)
    return figures


@contextmanager
def _servers() -> Iterator[Servers]:
    with own_postgres("bench_pod", "bench_foreign") as (postgres, folder), own_valkey(folder) as valkey:
        dsn = postgres.superuser_dsn("bench_pod")
        _create_outbox(dsn)
        yield Servers(pod_dsn=dsn, foreign_dsn=postgres.superuser_dsn("bench_foreign"), log_url=valkey.url())


def _create_outbox(dsn: str) -> None:
    engine = create_engine(dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"create schema {SCHEMA}")
        metadata.create_all(connection, tables=[outbox, cuts, epochs])
    engine.dispose()


# Bulk


def _throughput(servers: Servers, events: int) -> list[Figure]:
    with psycopg.connect(servers.pod_dsn, autocommit=True) as connection:
        for filled in range(0, events, FILL_ROWS):
            connection.execute(FILL, {"rows": min(FILL_ROWS, events - filled)})
        connection.execute("vacuum (analyze) oltp.outbox")
        connection.execute("checkpoint")
        references = [_copy_seconds(connection)]
        seconds, cpu_seconds, published, memory_mb = _in_process(_drain, servers)
        references.append(_copy_seconds(connection))
    assert published == events, f"published {published} of {events} events"
    rate, reference = events / seconds, events / statistics.mean(references)
    return [
        Figure(name="reference: COPY of the same rows to nowhere", value=reference, unit="events/s"),
        Figure(name="outbox -> log", value=rate, unit="events/s", goal=">= 100,000", is_met=rate >= 100_000),
        Figure(name="ratio", value=rate / reference, unit="", goal=">= 0.5", is_met=rate / reference >= 0.5),
        Figure(name="relay's own CPU", value=cpu_seconds / events * 1e6, unit="us/event"),
        Figure(name="relay's peak memory", value=memory_mb, unit="MB", goal="< 1,024", is_met=memory_mb < 1_024),
    ]


def _copy_seconds(connection: psycopg.Connection[Any]) -> float:
    """COPY the rows of the relay, in its order and with its partition, and discard them; return the seconds."""
    row = connection.execute("select pg_current_snapshot()::text").fetchone()
    assert row is not None
    values = {**BEFORE_ALL.after(), "snapshot": Snapshot(text=row[0]).text, "partition_count": SHAPE.partition_count}
    query = psycopg.ClientCursor(connection).mogrify(EVENTS_OF_CUT, values)
    started = time.perf_counter()
    with connection.cursor() as cursor, cursor.copy(f"copy ({query}) to stdout (format binary)") as copy:
        for _ in copy:
            pass
    return time.perf_counter() - started


def _in_process(body: Callable[..., Any], *arguments: Any) -> Any:
    """Run `body` in a new process, like a worker, and return its result."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(body, arguments)


def _relay(servers: Servers) -> Relay:
    return Relay(pod="pod1", dsn=servers.pod_dsn, log=ValkeyLog(servers.log_url), shape=SHAPE)


def _drain(servers: Servers) -> tuple[float, float, int, float]:
    """Return seconds, CPU seconds, events and peak memory (MB) of one drain."""
    relay = _relay(servers)
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    result = relay.drain()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu_seconds, result.events_published, after.ru_maxrss / 1024


def _idle_cost(servers: Servers) -> list[Figure]:
    """Time a poll of the full outbox without new events."""
    with psycopg.connect(servers.pod_dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("set plan_cache_mode = force_custom_plan; set enable_seqscan = off")
        register_cut(connection, SHAPE, registered_by="bench")
        newest = last_cut(connection)
        assert newest is not None
        times = []
        for _ in range(200):
            started = time.perf_counter()
            look(connection, newest.seen())
            times.append((time.perf_counter() - started) * 1_000)
    median = statistics.median(times)
    return [Figure(name="an empty look", value=median, unit="ms", goal="< 1", is_met=median < 1)]


def _old_cut(servers: Servers) -> list[Figure]:
    """Read an old cut of one event again after many newer events, as repairs do; the reference is a new such cut."""
    with psycopg.connect(servers.pod_dsn, autocommit=True) as connection:
        old = _one_event(connection)
        for _ in range(EVENTS_AFTER // FILL_ROWS):
            connection.execute(FILL, {"rows": FILL_ROWS})
        register_cut(connection, SHAPE, registered_by="bench")
        newest = _one_event(connection)
        connection.execute("analyze oltp.outbox")
    with OutboxReader(servers.pod_dsn, application_name="bench") as reader:
        seconds = {name: _read_seconds(reader, *cuts) for name, cuts in (("newest", newest), ("old", old))}
    ratio = seconds["old"] / seconds["newest"]
    return [
        Figure(name="reference: the newest cut, read", value=seconds["newest"] * 1_000, unit="ms"),
        Figure(name=f"a cut read again, {EVENTS_AFTER:,} events later", value=seconds["old"] * 1_000, unit="ms"),
        Figure(name="ratio", value=ratio, unit="", goal="<= 3", is_met=ratio <= 3),
    ]


def _one_event(connection: psycopg.Connection[Any]) -> tuple[Cut, Cut]:
    """Register a cut, insert one event, register its cut; return both."""
    previous = register_cut(connection, SHAPE, registered_by="bench", is_forced=True)
    connection.execute(FILL, {"rows": 1})
    cut = register_cut(connection, SHAPE, registered_by="bench")
    assert previous is not None and cut is not None
    return previous, cut


def _read_seconds(reader: OutboxReader, previous: Cut, cut: Cut) -> float:
    times = []
    for _ in range(50):
        started = time.perf_counter()
        assert sum(batch.num_rows for batch in reader.events_of(cut, previous.seen())) == 1
        times.append(time.perf_counter() - started)
    return statistics.median(times)


# Latency


def _latency(servers: Servers, samples: int, *, name: str) -> list[Figure]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    relay = context.Process(target=_run_relay, args=(servers, stop))
    relay.start()
    try:
        times = sorted(_commit_to_log(servers, samples))
    finally:
        stop.set()
        relay.join()
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    return [
        Figure(name=f"{name}, p50", value=p50, unit="ms", goal="< 30", is_met=p50 < 30),
        Figure(name=f"{name}, p99", value=p99, unit="ms", goal="< 100", is_met=p99 < 100),
    ]


def _run_relay(servers: Servers, stop: Any) -> None:
    told = threading.Event()

    def pass_on() -> None:
        stop.wait()
        told.set()

    threading.Thread(target=pass_on, daemon=True).start()
    _relay(servers).run(told)


def _commit_to_log(servers: Servers, samples: int) -> list[float]:
    """Commit one event at a time; return for each the milliseconds until its manifest could be read."""
    log = ValkeyLog(servers.log_url)
    rng = random.Random(1)
    times = []
    with psycopg.connect(servers.pod_dsn, autocommit=True) as connection:
        at = log.tail("pod1", SHAPE.partition_count).manifest_cut
        for number in range(samples + 5):
            time.sleep(rng.random() * 0.05)
            connection.execute(FILL, {"rows": 1})
            started = time.perf_counter()
            while not (found := log.manifests("pod1", at, limit=1_000, block_milliseconds=5_000)):
                assert time.perf_counter() - started < 60, "the relay does not publish"
            at = found[-1].cut
            if number >= 5:  # the relay's start is not measured
                times.append((time.perf_counter() - started) * 1_000)
    log.close()
    return times


@contextmanager
def _foreign_transactions(servers: Servers) -> Iterator[None]:
    """Keep a transaction with an id open in the pod's database and in another database of the server."""
    with psycopg.connect(servers.pod_dsn) as here, psycopg.connect(servers.foreign_dsn) as there:
        for connection in (here, there):
            connection.execute("select pg_current_xact_id()")
        yield


if __name__ == "__main__":
    sys.exit(measured(measure, events="events waiting in the outbox", samples="commits timed for each latency"))
