"""The relay's access to the outbox: reading the events of a cut, counting unpublished events, and pruning.

Belongs here: SQL on `oltp.outbox` outside of the commands. Does not belong here: registering cuts (`streams/cuts.py`),
or writing events (commands do that).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
import pyarrow as pa

from contracts.arrow import connect_arrow
from contracts.ids import PARTITION_SQL
from streams.ahead import ahead
from streams.cuts import BEFORE_ALL, Cut, Snapshot, cuts_from, last_cut

RELAY_LOCK = (0x7469656F, 0x00000001)
"""The advisory lock ("tieo", relay) of a pod's database; its one relay holds it as long as it runs."""

# Ids as text: the log's readers treat them as opaque. The payload is json (not jsonb), so its text is unchanged. All
# rows that a snapshot sees are below its xmax. We state this bound so that reading an old cut does not scan later rows.
EVENTS_OF_CUT = f"""
select position, event_id::text, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,
       schema_version, occurred_at, recorded_at, causation_id::text, correlation_id::text, traceparent, payload::text,
       directory_epoch, {PARTITION_SQL} as partition
from oltp.outbox
where (
    (xid >= %(xmax)s::xid8 and xid < pg_snapshot_xmax(%(snapshot)s::pg_snapshot)) or xid = any(%(xip)s::xid8[])
  ) and pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)
order by position
"""

COUNTED_MAX = 100_000
"""We count at most this many waiting events, because each one counted is one row read."""

QUEUED_EVENTS_MAX = 1_000_000
"""With this many waiting events, publication has stopped. People are alerted earlier
(`stack/looking/headroom.py`), and alerts count up to this number.
"""

UNPUBLISHED = """
select count(*) as events, min(recorded_at) as oldest_recorded_at,
       coalesce(extract(epoch from clock_timestamp() - min(recorded_at)), 0)::float8 as oldest_seconds
from (
    select recorded_at from oltp.outbox where xid >= %(xmax)s::xid8 or xid = any(%(xip)s::xid8[])
    limit %(counted_max)s
) as waiting
"""

HELD_BY = """
select coalesce(nullif(activity.application_name, ''), 'server process ' || locks.pid)
from pg_locks as locks
left join pg_stat_activity as activity using (pid)
where locks.locktype = 'advisory' and locks.granted
  and locks.database = (select oid from pg_database where datname = current_database())
  and locks.classid = %(classid)s and locks.objid = %(objid)s and locks.objsubid = 2
"""

# A function that runs as the owner: with the right to delete, the relay's role could also lock the outbox table.
PRUNE_OUTBOX = "select events, cuts from oltp.prune_outbox(%s)"

BATCH_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class OutboxObservation:
    """The unpublished events of a pod, and the relay that publishes."""

    cut: int
    """The highest registered cut, 0 when there is none."""
    unpublished_events: int
    """Number of unpublished events, counted up to `counted_max`; at that value there may be more."""
    oldest_unpublished_seconds: float
    """Age of the oldest one of the counted unpublished events, 0.0 when there is none."""
    held_by: str | None
    """Application name of the session that holds the relay lock; None: no relay runs."""


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """Numbers of removed events and cuts."""

    events: int
    cuts: int


class OutboxReader:
    """Reads the events of cuts as Arrow record batches, in bounded memory. One connection; not thread safe."""

    def __init__(self, dsn: str, *, application_name: str, work_mem: str = "128MB") -> None:
        self._binder = psycopg.connect(dsn, autocommit=True, application_name=application_name)
        self._connection = connect_arrow(dsn)
        with self._connection.cursor() as cursor:
            cursor.execute(
                "select set_config('work_mem', $1, false), set_config('application_name', $2, false)",
                (work_mem, application_name),
            )
            cursor.fetchall()

    def __enter__(self) -> OutboxReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
        self._binder.close()

    def events_of(self, cut: Cut, previous: Snapshot) -> Generator[pa.RecordBatch, None, None]:
        """Yield the events of `cut`, ordered by position, with the computed column `partition` last."""
        values = {**previous.after(), "snapshot": cut.snapshot, "partition_count": cut.partition_count}
        # Values are bound on the client: the planner knows them, uses the index on xid and rescans nothing.
        query = psycopg.ClientCursor(self._binder).mogrify(EVENTS_OF_CUT, values)
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
            cursor.execute(query)
            yield from ahead(iter(cursor.fetch_record_batch()))


def observe_outbox(dsn: str, published_cut: int, *, counted_max: int | None = None) -> OutboxObservation:
    """Return what the pod at `dsn` has not published; the last manifest of its log is `published_cut` (0: none).

    Events are counted up to `counted_max` (default: `COUNTED_MAX`).
    """
    with psycopg.connect(dsn, autocommit=True) as connection:
        newest = last_cut(connection)
        published = cuts_from(connection, published_cut, limit=1) if published_cut else []
        seen = published[0].seen() if published else BEFORE_ALL
        row = connection.execute(UNPUBLISHED, {**seen.after(), "counted_max": counted_max or COUNTED_MAX}).fetchone()
        assert row is not None
        return OutboxObservation(
            cut=newest.cut if newest else 0,
            unpublished_events=row[0],
            oldest_unpublished_seconds=max(0.0, row[2]),
            held_by=held_by(connection),
        )


def observe_alone(dsn: str) -> tuple[int, str | None]:
    """Return the newest cut (0: none) and the relay's name, without the count: for when the log does not answer."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        newest = last_cut(connection)
        return newest.cut if newest else 0, held_by(connection)


def held_by(connection: psycopg.Connection[Any]) -> str | None:
    """Return the application name of the session that holds the pod's relay lock, or None."""
    row = connection.execute(HELD_BY, {"classid": RELAY_LOCK[0], "objid": RELAY_LOCK[1]}).fetchone()
    return None if row is None else str(row[0])


def prune(dsn: str, through_cut: int) -> PruneResult:
    """Delete the outbox rows of all cuts up to `through_cut`, and the cuts below it.

    The caller must have proven that the lake and a verified backup of it hold these cuts, because they can never be
    published from the outbox again. `through_cut` = 1 prunes nothing: the first cut row says up to which cut the outbox
    is pruned, but a first row with number 1 means that nothing is.
    """
    with psycopg.connect(dsn) as connection:
        row = connection.execute(PRUNE_OUTBOX, (through_cut,)).fetchone()
        assert row is not None
        return PruneResult(events=row[0], cuts=row[1])
