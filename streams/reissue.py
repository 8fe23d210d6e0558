"""Recomputes from the outbox the cuts that the relay published, without publishing them.

Belongs here: recomputing the events of cuts (or of aggregates), for repairs of the copies. Does not belong here:
writing them anywhere (`derived/lake_repair.py`, `streams/lock_takeover.py`).

A cut is a function of two stored snapshots (`streams/cuts.py`), and this module uses the relay's own code. So rows,
partitions, chunks and checksums equal the published ones. Only cuts that are not pruned can be recomputed; older cuts
are in the lake and its backup (`derived/lake_backup.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import adbc_driver_manager
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from contracts.clock import utc_now
from contracts.errors import LogDivergedError, StackError
from contracts.settings import PodSettings
from streams import codec
from streams.cuts import BEFORE_ALL, Cut, cuts_from, first_cut, last_cut
from streams.log import EntryId, LogEntry, Manifest
from streams.outbox_reading import OutboxReader
from streams.parking import aggregate_keys
from streams.publishing import CutPublication, check_publishable

REISSUED_SCHEMA = codec.EVENT_SCHEMA.append(pa.field("chunk", pa.int32()))
"""The columns of an event in the lake: the envelope, and the number of its chunk."""

APPLICATION_NAME = "tieout reissue"

# If a cut's snapshot sees a transaction, every later one does, too. So the first cut that sees a transaction has its
# events. We start from the first cut whose xmax is above the transaction id, found for all transactions in one pass. If
# the transaction was in progress at that cut, a later cut is the first.
CUTS_OF_AGGREGATES = """
with wanted as (
    select * from unnest(%(merchants)s::text[], %(types)s::text[], %(ids)s::text[])
    as given (merchant_id, aggregate_type, aggregate_id)
),
writers as (
    select distinct outbox.xid
    from oltp.outbox
    inner join wanted using (merchant_id, aggregate_type, aggregate_id)
),
marks as (
    select xid, null::bigint as cut from writers
    union all
    select pg_snapshot_xmax(snapshot), cut from oltp.cuts
),
bounded as (
    select xid, cut, min(cut) over (order by xid desc, cut desc nulls first rows unbounded preceding) as first_cut
    from marks
)
select distinct (
    select cuts.cut from oltp.cuts
    where cuts.cut >= bounded.first_cut and pg_visible_in_snapshot(bounded.xid, cuts.snapshot)
    order by cuts.cut limit 1
) as cut
from bounded
where bounded.cut is null
order by cut
"""


@dataclass(frozen=True, kw_only=True)
class ReissuedCut:
    """One recomputed cut, equal to the published one or to the one that will be published."""

    cut: int
    epoch: str
    events: pa.Table
    """REISSUED_SCHEMA, ordered by (partition, chunk, position)."""
    manifest: Manifest
    """It equals the log's manifest of the cut (`says_the_same_as`); its generation is 0."""


def unpruned_after(pod: PodSettings) -> int:
    """Return the cut up to which the outbox is pruned; every later cut can be recomputed. 0: nothing is pruned."""
    with _connect(pod) as connection:
        return _base(connection)


def newest_cut(pod: PodSettings) -> int:
    """Return the number of the newest registered cut; 0 when there is none."""
    with _connect(pod) as connection:
        newest = last_cut(connection)
        return newest.cut if newest else 0


def events_of_cuts(pod: PodSettings, cuts: Collection[int]) -> pa.Table:
    """Return all events of these cuts (REISSUED_SCHEMA), in order of cut, partition, chunk and position.

    The table is in memory; for more than a few hundred thousand events use `reissued_cuts`. Raises LogDivergedError
    when a cut is pruned or was never registered, StackError when the pod cannot be reached.
    """
    tables = [reissued.events for reissued in reissued_cuts(pod, cuts)]
    return pa.concat_tables(tables) if tables else REISSUED_SCHEMA.empty_table()


def reissued_cuts(pod: PodSettings, cuts: Collection[int]) -> Iterator[ReissuedCut]:
    """Yield these cuts in order; raises what `events_of_cuts` raises."""
    try:
        with _connect(pod) as connection, OutboxReader(pod.relay_dsn, application_name=APPLICATION_NAME) as reader:
            for number in sorted(set(cuts)):
                yield _reissue(pod.pod, connection, reader, number)
    except (psycopg.OperationalError, adbc_driver_manager.OperationalError) as error:
        raise _unreachable(pod, error) from None


def cuts_of_aggregates(pod: PodSettings, keys: Collection[str]) -> list[int]:
    """Return, in order, the cuts that contain the outbox's events of these aggregates (``merchant/type/id``).

    Events that are not in a cut yet are left out, because the relay will publish them in a later cut.
    """
    parts = [key.split("/", 2) for key in sorted(set(keys))]
    merchants, types, ids = ([part[index] for part in parts] for index in range(3))
    with _connect(pod) as connection:
        rows = connection.execute(CUTS_OF_AGGREGATES, {"merchants": merchants, "types": types, "ids": ids}).fetchall()
    return [row[0] for row in rows if row[0] is not None]


def events_of_aggregates(pod: PodSettings, keys: Collection[str]) -> pa.Table:
    """Return all events of these aggregates (``merchant/type/id``) in the outbox, as `events_of_cuts` does.

    Their cuts are computed completely, because the chunk of an event depends on all events of its cut.
    """
    wanted = pa.array(sorted(set(keys)), pa.string())
    tables = [_of_keys(reissued.events, wanted) for reissued in reissued_cuts(pod, cuts_of_aggregates(pod, keys))]
    return pa.concat_tables(tables) if tables else REISSUED_SCHEMA.empty_table()


def _of_keys(events: pa.Table, wanted: pa.Array) -> pa.Table:
    return events.filter(pc.is_in(aggregate_keys(events), value_set=wanted))


def _reissue(pod: str, connection: psycopg.Connection[Any], reader: OutboxReader, number: int) -> ReissuedCut:
    previous, cut = _neighbours(pod, connection, number)
    check_publishable(pod, cut)
    publication = CutPublication(
        pod=pod, cut=cut, generation=0, previous_epoch=previous.epoch if previous is not None else None
    )
    entries: list[LogEntry] = []
    with closing(reader.events_of(cut, previous.seen() if previous else BEFORE_ALL)) as batches:
        for batch in batches:
            for group in publication.add(batch):
                entries += group
    entries += publication.finish()
    # Pruning deletes rows and cuts in one transaction. If the cut is still not pruned, we have read all of its rows.
    if _base(connection) >= number:
        raise _pruned(pod, connection, number)
    return ReissuedCut(
        cut=number, epoch=cut.epoch, events=_table(pod, entries), manifest=publication.manifest(utc_now())
    )


def _neighbours(pod: str, connection: psycopg.Connection[Any], number: int) -> tuple[Cut | None, Cut]:
    """Return the previous cut (None for the first one) and this cut."""
    if number <= _base(connection):
        raise _pruned(pod, connection, number)
    found = {cut.cut: cut for cut in cuts_from(connection, number - 1, limit=2)}
    if number not in found or (number > 1 and number - 1 not in found):
        raise LogDivergedError(f"Pod {pod} has registered no cut {number}; there is nothing of it to compute again.")
    return found.get(number - 1), found[number]


def _base(connection: psycopg.Connection[Any]) -> int:
    first = first_cut(connection)
    return 0 if first is None or first.cut == 1 else first.cut


def _pruned(pod: str, connection: psycopg.Connection[Any], number: int) -> LogDivergedError:
    return LogDivergedError(
        f"The outbox of pod {pod} is pruned through cut {_base(connection)}, so cut {number} cannot be computed again; "
        "take it from the verified backup of the lake."
    )


def _table(pod: str, entries: Sequence[LogEntry]) -> pa.Table:
    tables = []
    for entry in sorted(entries, key=lambda entry: (entry.at.partition, entry.at.chunk)):
        # We decode the entry's bytes, to get exactly what a consumer reads.
        tables.append(placed_events(codec.decode(entry.data), pod=pod, epoch=entry.epoch, at=entry.at))
    return pa.concat_tables(tables) if tables else REISSUED_SCHEMA.empty_table()


def placed_events(stored: pa.Table, *, pod: str, epoch: str, at: EntryId) -> pa.Table:
    """Return the events of a decoded entry as the lake keeps them (REISSUED_SCHEMA)."""
    placed = codec.placed(stored, pod=pod, epoch=epoch, cut=at.cut, partition=at.partition)
    return placed.append_column(REISSUED_SCHEMA.field("chunk"), pa.repeat(pa.scalar(at.chunk, pa.int32()), len(stored)))


def _connect(pod: PodSettings) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(pod.relay_dsn, autocommit=True, application_name=APPLICATION_NAME)
    except psycopg.OperationalError as error:
        raise _unreachable(pod, error) from None


def _unreachable(pod: PodSettings, error: BaseException) -> StackError:
    return StackError(f"The outbox of {pod.pod} could not be read: {' '.join(str(error).split())}")
