"""Opens a new epoch in the pod's database and its log (for the copies: `derived/epoch_opening.py`).

After a restore or a promotion, the database may lack cuts that were published, and may use their numbers again for
other content. Belongs here: finding the last cut that database and copies have identically, recording it in the pod,
and retracting later cuts from the log. Does not belong here: publishing afterwards (`streams/relay.py`).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import pyarrow as pa
from psycopg.rows import class_row

from contracts.errors import (
    EpochChangedError,
    LogGapError,
    ManifestMismatchError,
    PropagationError,
    RelayBusyError,
)
from contracts.settings import PodSettings
from streams import codec
from streams.cuts import CUT_COLUMNS, DATABASE_EPOCH, Cut, configure_registering, current_epoch, first_cut, last_cut
from streams.log import EntryId, EventLog, Manifest, Progress, entry_place, manifests_after
from streams.outbox_reading import RELAY_LOCK, held_by
from streams.projection import EpochOpening

logger = logging.getLogger("tieout.epochs")

PAGE = 1_000
LOCK_SECONDS_MAX, LOCK_RETRY_SECONDS = 2.0, 0.05

OPENING_COLUMNS = "epoch, base_cut, base_epoch, opened_at, opened_by, completed_at"

# The name includes the time, because a database that was restored twice can have two histories with the same
# DATABASE_EPOCH.
RECORD_OPENING = f"""
insert into oltp.epochs (epoch, base_cut, base_epoch, opened_by)
select {DATABASE_EPOCH} || to_char(clock_timestamp() at time zone 'UTC', '".t"YYYYMMDDHH24MISSUS'),
       %(base_cut)s, %(base_epoch)s, %(opened_by)s
returning {OPENING_COLUMNS}
"""
SELECT_OPENING = f"""
select {OPENING_COLUMNS}, starts_with(epoch, {DATABASE_EPOCH} || '.') as is_of_this_database
from oltp.epochs order by number desc limit 1
"""
COMPLETE_OPENING = "select oltp.complete_epoch(%(epoch)s)"
SELECT_CUTS = f"select {CUT_COLUMNS} from oltp.cuts where cut = any(%(cuts)s)"
COUNT_AFTER = "select count(*) from oltp.cuts where cut > %(cut)s"

# A visible row has a transaction id below xmax, unless that id comes from another server.
SELECT_COUNTER = """
select exists (select from oltp.outbox where xid >= pg_snapshot_xmax(pg_current_snapshot()))
       or coalesce(pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(%(snapshot)s::pg_snapshot), false)
"""


@dataclass(frozen=True, kw_only=True)
class PublishedCut:
    """What a copy knows of one cut. A field that is None is not known."""

    cut: int
    epoch: str
    registered_at: datetime | None
    snapshot: str | None = None

    def agrees_with(self, cut: Cut) -> bool | None:
        """Return whether this equals the database's cut of that number; None when the copy knows too little."""
        if (self.epoch, self.registered_at or cut.registered_at) != (cut.epoch, cut.registered_at):
            return False
        if self.snapshot is not None and self.snapshot != cut.snapshot:
            return False
        return None if self.registered_at is None else True


Source = Callable[[], Iterator[PublishedCut]]
"""Returns an iterator of the cuts that one copy knows, in ascending order."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """The result of comparing the cuts of the database with those of its copies."""

    cut: Cut | None
    """The highest cut that both sides have identically, if there is one."""
    first_other: int | None
    """The lowest cut number under which a copy has another cut than the database, if there is one."""


@dataclass(frozen=True, kw_only=True)
class OpenedEpoch:
    """An epoch as the pod's table `oltp.epochs` has it."""

    epoch: str
    base_cut: int
    base_epoch: str | None
    opened_at: datetime
    opened_by: str
    completed_at: datetime | None
    is_of_this_database: bool = True
    """Whether the epoch was opened for the database's present DATABASE_EPOCH."""

    def opening(self) -> EpochOpening:
        """Return the opening as copies store it."""
        return EpochOpening(epoch=self.epoch, base_cut=self.base_cut, base_epoch=self.base_epoch)


def _gets_lock(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the relay lock was got. A session that has just ended may hold it for a moment more."""
    until = time.monotonic() + LOCK_SECONDS_MAX
    while connection.execute("select pg_try_advisory_lock(%s, %s)", RELAY_LOCK).fetchone() != (True,):
        if time.monotonic() > until:
            return False
        time.sleep(LOCK_RETRY_SECONDS)
    return True


@contextmanager
def holding_pod(pod: PodSettings) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection that holds the pod's relay lock, so that no relay publishes the pod meanwhile.

    Raises RelayBusyError while a relay runs, PropagationError on a standby.
    """
    name = f"tieout open-epoch {pod.pod}"[:63]
    with psycopg.connect(pod.relay_dsn, autocommit=True, application_name=name) as connection:
        configure_registering(connection)
        (is_standby,) = connection.execute("select pg_is_in_recovery()").fetchone() or (False,)
        if not _gets_lock(connection):
            holder = held_by(connection) or "a session that has just ended"
            raise RelayBusyError(
                f"Pod {pod.pod} is held by {holder}; stop the workers with `tieout down`, then open the epoch."
            )
        if is_standby:
            raise PropagationError(
                f"The server of pod {pod.pod} is a standby; promote it, or point the pod's DSNs at the primary."
            )
        yield connection


def common_cut(connection: psycopg.Connection[Any], sources: Sequence[Source]) -> Common:
    """Return the last cut that the database and any copy have identically, below the first cut that differs.

    Equal registrations mean equal content: the transactions that a cut's snapshot sees were committed before the cut
    was registered. So a database that has the cut's row also has all of them.
    """
    found = [_agreement(connection, source(), None) for source in sources]
    first_other = min((other for _, other in found if other is not None), default=None)
    agreed = [
        _agreement(connection, source(), first_other)[0] if first_other is not None else cut
        for source, (cut, _) in zip(sources, found, strict=True)
    ]
    highest = max((cut for cut in agreed if cut is not None), key=lambda cut: cut.cut, default=None)
    return Common(cut=highest, first_other=first_other)


def _agreement(
    connection: psycopg.Connection[Any], source: Iterator[PublishedCut], below: int | None
) -> tuple[Cut | None, int | None]:
    """Return the last equal cut before the first different one, and the number of the different one."""
    agreed: Cut | None = None
    while page := list(itertools.islice(source, PAGE)):
        cursor = connection.cursor(row_factory=class_row(Cut))
        rows = cursor.execute(SELECT_CUTS, {"cuts": [item.cut for item in page]}).fetchall()
        known = {row.cut: row for row in rows}
        for item in page:
            if below is not None and item.cut >= below:
                return agreed, None
            if item.cut not in known:
                continue
            agrees = item.agrees_with(known[item.cut])
            if agrees is False:
                return agreed, item.cut
            agreed = known[item.cut] if agrees else agreed
    return agreed, None


def last_opening(connection: psycopg.Connection[Any]) -> OpenedEpoch | None:
    """Return the epoch that was opened last in this database, or in the database that it is a physical copy of."""
    return connection.cursor(row_factory=class_row(OpenedEpoch)).execute(SELECT_OPENING).fetchone()


def cut_numbered(connection: psycopg.Connection[Any], number: int) -> Cut | None:
    """Return the database's cut of that number, or None."""
    return connection.cursor(row_factory=class_row(Cut)).execute(SELECT_CUTS, {"cuts": [number]}).fetchone()


def continues(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the database's last cut belongs to its present epoch, and no opening of an epoch is incomplete."""
    newest = last_cut(connection)
    try:
        epoch = current_epoch(connection)
        if newest is not None:
            epoch.check(newest.cut, newest.epoch, "the last cut")
    except EpochChangedError:
        return False
    return True


def cuts_after(connection: psycopg.Connection[Any], cut: int) -> int:
    """Return how many cuts the database has registered after `cut`."""
    row = connection.execute(COUNT_AFTER, {"cut": cut}).fetchone()
    assert row is not None
    return int(row[0])


def check_continuable(connection: psycopg.Connection[Any], pod: str, base: Cut | None) -> None:
    """Raise PropagationError unless the cuts after `base` (None: all cuts) can be recomputed from this outbox."""
    first = first_cut(connection)
    if base is None and first is not None and first.cut > 1:
        raise PropagationError(
            f"The outbox of pod {pod} is pruned through cut {first.cut}, so only the lake has the history before, and "
            "the copies cannot begin from nothing; restore the database to a state that has a cut in common with them."
        )
    row = connection.execute(SELECT_COUNTER, {"snapshot": base.snapshot if base else None}).fetchone()
    assert row is not None
    if row[0]:
        raise PropagationError(
            f"The transaction counter of pod {pod}'s server is behind the transactions that its outbox names: the "
            "database was loaded from a dump. Restore a physical backup, or raise the counter (pg_resetwal)."
        )


def record_opening(connection: psycopg.Connection[Any], base: Cut | None, opened_by: str) -> OpenedEpoch:
    """Record that a new epoch begins after `base`. No cut can be registered or published until `complete_opening`."""
    values = {
        "base_cut": base.cut if base else 0,
        "base_epoch": base.epoch if base else None,
        "opened_by": opened_by,
    }
    opened = connection.cursor(row_factory=class_row(OpenedEpoch)).execute(RECORD_OPENING, values).fetchone()
    assert opened is not None
    return opened


def complete_opening(connection: psycopg.Connection[Any], opening: EpochOpening) -> None:
    """Delete the registered cuts after the base and mark the epoch as complete, in one transaction.

    Afterwards the events of these cuts are in no cut, so the relay's next cut, which starts from S(base), contains
    them.
    """
    connection.execute(COMPLETE_OPENING, {"epoch": opening.epoch})


def logged_cuts(log: EventLog, pod: str) -> Iterator[PublishedCut]:
    """Yield the cuts of the log's manifests, in ascending order."""
    for manifest in manifests_after(log, pod, 0):
        yield PublishedCut(
            cut=manifest.cut,
            epoch=manifest.epoch,
            registered_at=manifest.registered_at,
            snapshot=manifest.snapshot,
        )


def logged_after(log: EventLog, pod: str, cut: int) -> int:
    """Return the number of events in the log after `cut`."""
    return sum(manifest.events for manifest in manifests_after(log, pod, cut))


def logged_until(log: EventLog, pod: str, partition_count: int) -> int:
    """Return the highest cut that ever had an entry or manifest in the log's present generation; 0: none."""
    tail = log.tail(pod, partition_count)
    return max([tail.manifest_cut, *tail.entry_cuts.values()])


def retract_log(log: EventLog, pod: str, base_cut: int, partition_count: int) -> None:
    """Make the pod's log end at `base_cut`. Later manifests are kept aside until `EventLog.forget_retracted`."""
    if logged_until(log, pod, partition_count) > base_cut:
        log.retract(pod, base_cut)
    # Lower the reported positions, so that trimming waits until each projection has applied the new cuts.
    for item in log.progress(pod):
        if item.applied_cut > base_cut:
            taken_back = Progress(projection=item.projection, applied_cut=base_cut, reported_at=item.reported_at)
            log.report_progress(pod, taken_back)


def retracted_events(
    log: EventLog, pod: str, kept: Mapping[tuple[str, int, int, int | None], int]
) -> Iterator[pa.Table]:
    """Yield the events that were retracted from the log, entry by entry: EVENT_SCHEMA and `chunk`.

    `kept` maps (epoch, cut, partition, chunk) to the number of events that are already stored elsewhere; entries that
    are stored completely are skipped. An entry that cannot be read is reported in the process's log file.
    """
    for manifest in log.retracted(pod):
        for partition, chunks in enumerate(manifest.partitions):
            for chunk, stated in enumerate(chunks):
                if kept.get((manifest.epoch, manifest.cut, partition, chunk), 0) < stated.events:
                    at = EntryId(generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=chunk)
                    yield from _read(log, pod, manifest, at)


def _read(log: EventLog, pod: str, manifest: Manifest, at: EntryId) -> Iterator[pa.Table]:
    try:
        (data,) = log.fetch(pod, [at])
        stored = codec.decode(data)
    except (LogGapError, ManifestMismatchError) as error:
        logger.error("a retracted entry cannot be kept: %s", error)
        return
    stated = manifest.partitions[at.partition][at.chunk]
    if codec.checksum(stored, place=entry_place(pod, manifest.epoch, at)) != stated.checksum:
        logger.error("a retracted entry is not what its manifest states: %s of pod %s", at, pod)
    events = codec.placed(stored, pod=pod, epoch=manifest.epoch, cut=at.cut, partition=at.partition)
    chunk = pa.repeat(pa.scalar(at.chunk, pa.int32()), events.num_rows)
    yield events.append_column(pa.field("chunk", pa.int32()), chunk)
