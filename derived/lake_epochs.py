"""The lake's epochs: recording them, and taking the lake back to the base cut of a new one.

Belongs here: tables `raw.epochs`, `raw.retracted_events`, `raw.retracted_cuts`, and the one transaction that fills
them. Does not belong here: finding that cut (`streams/epochs.py`), the other copies (`derived/epoch_opening.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb
import msgspec
import pyarrow as pa

from contracts.clock import Clock, utc_now
from contracts.errors import PropagationError
from contracts.events.envelope import Envelope
from contracts.settings import Settings
from derived.builds import build_lock, stand_back
from derived.lake_connection import open_lake, scrub, transaction
from derived.lake_files import conflicts_retried
from derived.lake_schema import CUTS, EPOCHS, EVENTS, PARKED, RETRACTED_CUTS, RETRACTED_EVENTS, fence_table
from streams.codec import EVENT_SCHEMA
from streams.epochs import PublishedCut
from streams.projection import EpochOpening

Connection = duckdb.DuckDBPyConnection

RETRACTED_SCHEMA = EVENT_SCHEMA.append(pa.field("chunk", pa.int32()))
PAGE = 1_000
ATTEMPTS_MAX = 5
"""A consumer of the pod that still runs may commit first; the next attempt then reads its changes."""

Place = tuple[str, int, int, int | None]
"""(epoch, cut, partition, chunk) of an entry."""

LoggedEvents = Callable[[Mapping[Place, int]], Iterator[pa.Table]]
"""Function: number of events already kept, by place -> events of the log that are not kept yet (RETRACTED_SCHEMA)."""

KEEP_MISSING = f"""
    insert into {RETRACTED_EVENTS} by name
    select incoming.*, $retracted_by as retracted_by, cast($now as timestamptz) as retracted_at from incoming
    where not exists (
        select 1 from {RETRACTED_EVENTS} as kept
        where kept.pod = incoming.pod and kept.epoch = incoming.epoch and kept.cut = incoming.cut
          and kept.event_id = incoming.event_id)"""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive cuts of one epoch."""

    from_cut: int
    through_cut: int
    epoch: str


def record_opening(cursor: Connection, pod: str, opening: EpochOpening, clock: Clock = utc_now) -> None:
    """Record once that the pod's cuts after the base are of another epoch; in the caller's transaction."""
    cursor.execute(
        f"""insert into {EPOCHS} select $pod, $epoch, $base_cut, $base_epoch, cast($now as timestamptz), null
            where not exists (
                from {EPOCHS} where pod = $pod and epoch = $epoch and base_cut = $base_cut and retracted_at is null)""",
        {"pod": pod, **_named(opening), "now": clock()},
    )


def spans(connection: Connection, pod: str, from_cut: int, through_cut: int, present: str) -> list[Span]:
    """Return the cuts from `from_cut` through `through_cut` by epoch, in order; `present` is the newest cut's epoch."""
    rows = connection.execute(
        f"""select epoch, base_cut, base_epoch from {EPOCHS}
            where pod = ? and retracted_at is null order by base_cut, opened_at""",
        [pod],
    ).fetchall()
    epochs = [row[2] for row in rows] + [present]
    starts = [1, *(row[1] + 1 for row in rows)]
    ends = [*(row[1] for row in rows), through_cut]
    found = [
        Span(from_cut=max(start, from_cut), through_cut=min(end, through_cut), epoch=epoch)
        for start, end, epoch in zip(starts, ends, epochs, strict=True)
        if epoch is not None
    ]
    return [span for span in found if span.from_cut <= span.through_cut]


def recorded_cuts(connection: Connection, pod: str) -> Iterator[PublishedCut]:
    """Yield the cuts that the lake recorded, in order, with epoch and time of registration."""
    # A lake restored from an old backup recorded its last event's time, because the cut's time was not known: omit it.
    rows = connection.cursor().execute(
        f"""select cut, epoch, if(data_at in (select recorded_at from {EVENTS} where pod = $pod), null, data_at)
            from {CUTS} where pod = $pod order by cut""",
        {"pod": pod},
    )
    while page := rows.fetchmany(PAGE):
        yield from (PublishedCut(cut=row[0], epoch=row[1], registered_at=row[2]) for row in page)


def events_after(connection: Connection, pod: str, cut: int) -> int:
    """Return how many events the lake has, including parked ones, after `cut`."""
    rows = connection.execute(
        f"""select (select count(*) from {EVENTS} where pod = $pod and cut > $cut)
                 + (select count(*) from {PARKED} where pod = $pod and cut > $cut)""",
        {"pod": pod, "cut": cut},
    ).fetchall()
    return int(rows[0][0])


def retract_lake(
    settings: Settings,
    pod: str,
    opening: EpochOpening,
    *,
    base_at: datetime | None,
    logged: LoggedEvents,
    clock: Clock = utc_now,
) -> None:
    """Take the lake back to the opening's base in one transaction: later events are moved to `raw.retracted_events`.

    `base_at` is when the base cut was registered; `logged` gives the events that only the log had. The build lock is
    held, so no build of the warehouse runs, and the next build starts at the base. Idempotent.
    """
    with (
        build_lock(settings),
        open_lake(settings) as connection,
    ):
        try:
            for attempt in conflicts_retried(ATTEMPTS_MAX):
                with attempt, transaction(connection, "opening of an epoch"):
                    _retract(connection, pod, opening, base_at, logged, clock)
        except duckdb.TransactionException as error:
            sentence = scrub(error, settings.catalog_dsn)
            raise PropagationError(
                f"The lake could not be taken back to cut {opening.base_cut} of {pod}: {sentence}"
            ) from None


def _retract(
    cursor: Connection, pod: str, opening: EpochOpening, base_at: datetime | None, logged: LoggedEvents, clock: Clock
) -> None:
    now = clock()
    _move(cursor, EVENTS, RETRACTED_EVENTS, pod, opening, now)
    _keep(cursor, _parked(cursor, pod, opening.base_cut), opening, now)
    for events in logged(_kept(cursor, pod, opening.base_cut)):
        _keep(cursor, events, opening, now)
    cursor.execute(f"delete from {PARKED} where pod = ? and cut > ?", [pod, opening.base_cut])
    _move(cursor, CUTS, RETRACTED_CUTS, pod, opening, now)
    _move_fence(cursor, pod, opening, base_at)
    cursor.execute(
        f"update {EPOCHS} set retracted_at = ? where pod = ? and retracted_at is null and base_cut >= ? and epoch <> ?",
        [now, pod, opening.base_cut, opening.epoch],
    )
    record_opening(cursor, pod, opening, clock)
    stand_back(cursor, pod, opening.base_cut, data_at=base_at, clock=clock)


def _move(cursor: Connection, rows: str, retracted: str, pod: str, opening: EpochOpening, now: datetime) -> None:
    """Move a table's rows after the base cut to the table of those that were taken back."""
    cursor.execute(
        f"""insert into {retracted} by name
            select *, $epoch as retracted_by, cast($now as timestamptz) as retracted_at from {rows}
            where pod = $pod and cut > $base_cut""",
        {"pod": pod, "epoch": opening.epoch, "base_cut": opening.base_cut, "now": now},
    )
    cursor.execute(f"delete from {rows} where pod = ? and cut > ?", [pod, opening.base_cut])


def _parked(cursor: Connection, pod: str, base_cut: int) -> pa.Table:
    rows = cursor.execute(f"select event from {PARKED} where pod = ? and cut > ?", [pod, base_cut]).fetchall()
    events = [msgspec.structs.asdict(msgspec.json.decode(row[0], type=Envelope)) for row in rows]
    return pa.Table.from_pylist([event | {"chunk": None} for event in events], schema=RETRACTED_SCHEMA)


def _kept(cursor: Connection, pod: str, base_cut: int) -> dict[Place, int]:
    rows = cursor.execute(
        f"""select epoch, cut, "partition", chunk, count(*) from {RETRACTED_EVENTS}
            where pod = ? and cut > ? group by all""",
        [pod, base_cut],
    ).fetchall()
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}


def _keep(cursor: Connection, events: pa.Table, opening: EpochOpening, now: datetime) -> None:
    if events.num_rows:
        cursor.register("incoming", events)
        cursor.execute(KEEP_MISSING, {"retracted_by": opening.epoch, "now": now})
        cursor.unregister("incoming")


def _move_fence(cursor: Connection, pod: str, opening: EpochOpening, base_at: datetime | None) -> None:
    """Move fences beyond the base back to it; if the whole lake is at the base then, they are of the new epoch."""
    fence = fence_table("lake", pod)
    base = {"base_cut": opening.base_cut}
    cursor.execute(
        f"""update {fence} set epoch = $base_epoch, cut = $base_cut, chunk = 0, data_at = $base_at
            where cut > $base_cut or (cut = $base_cut and chunk > 0)""",
        {**base, "base_epoch": opening.base_epoch, "base_at": base_at},
    )
    behind = cursor.execute(f"select count(*) from {fence} where cut < $base_cut", base).fetchall()
    if behind[0][0] or opening.base_epoch is None:
        return
    cursor.execute(f"update {fence} set epoch = ?", [opening.epoch])
    cursor.execute(
        f"""insert into {CUTS} select $pod, $base_epoch, $base_cut, cast($base_at as timestamptz)
            where not exists (from {CUTS} where pod = $pod and cut = $base_cut)""",
        {"pod": pod, **base, "base_epoch": opening.base_epoch, "base_at": base_at},
    )


def _named(opening: EpochOpening) -> dict[str, object]:
    return {"epoch": opening.epoch, "base_cut": opening.base_cut, "base_epoch": opening.base_epoch}
