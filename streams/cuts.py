"""Cuts: numbered, consistent snapshots of one pod's OLTP (ARCHITECTURE.md, "Cuts").

Belongs here: what a cut is, how a relay and a reconciler register one, the epoch, and when no cut may be registered.
Does not belong here: reading the events of a cut (`streams/outbox_reading.py`) or publishing them (`streams/relay.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import class_row

from contracts.errors import EpochChangedError, PropagationError
from contracts.ids import PARTITION_FUNCTION
from contracts.settings import Settings

CODEC = "arrow-ipc-zstd/1"
"""How entries are encoded; stored with every cut. `streams/codec.py` implements it."""

DATABASE_EPOCH = """(
    (select system_identifier::text from pg_control_system())
    || '.' || (select oid::text from pg_database where datname = current_database())
    || '.' || case when pg_is_in_recovery() then 'standby'
                   else substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) end
)"""
"""System identifier, database oid and timeline; together they identify one history of one database."""

LAST_OPENED = "(select epoch, base_cut, completed_at from oltp.epochs order by number desc limit 1)"

CURRENT_EPOCH = f"""(
    select case when opened.completed_at is not null and starts_with(opened.epoch, present.epoch || '.')
                then opened.epoch else present.epoch end
    from (select {DATABASE_EPOCH} as epoch) as present left join {LAST_OPENED} as opened on true
)"""
"""The epoch that a person opened last, if it was opened for the present DATABASE_EPOCH; else DATABASE_EPOCH."""

CUT_COLUMNS = (
    "cut, snapshot::text as snapshot, epoch, registered_at, partition_function, partition_count, chunk_rows, codec"
)

SELECT_EPOCH = f"""
select pg_is_in_recovery(), present.name, case when present.name = opened.epoch then opened.base_cut else 0 end,
       opened.epoch is not null and opened.completed_at is null
from (select {CURRENT_EPOCH} as name) as present left join {LAST_OPENED} as opened on true
"""

# The commands may commit asynchronously. A registration commits synchronously, which also flushes all earlier commits
# to disk, before anything is published.
CONFIGURE_REGISTERING = (
    "set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off;"
    " set synchronous_commit = on"
)

# The number n and the snapshot come from one statement, so n is read inside S(n): S(n) sees every earlier cut.
REGISTER_CUT = f"""
insert into oltp.cuts (
    cut, snapshot, epoch, registered_by, partition_function, partition_count, chunk_rows, codec
)
select coalesce(max(cut), 0) + 1, pg_current_snapshot(), {CURRENT_EPOCH}, %(registered_by)s,
       %(partition_function)s, %(partition_count)s, %(chunk_rows)s, %(codec)s
from oltp.cuts
returning {CUT_COLUMNS}
"""

SELECT_LAST_CUT = f"select {CUT_COLUMNS} from oltp.cuts order by cut desc limit 1"
SELECT_FIRST_CUT = f"select {CUT_COLUMNS} from oltp.cuts order by cut limit 1"
SELECT_CUTS_FROM = f"select {CUT_COLUMNS} from oltp.cuts where cut >= %(cut)s order by cut limit %(limit)s"

OPEN_RECONCILER_SNAPSHOT = """
select coalesce(max(cut), 0) as last_cut, pg_current_snapshot()::text as snapshot, pg_export_snapshot() as exported
from oltp.cuts
"""

REGISTER_GIVEN_CUT = f"""
insert into oltp.cuts (
    cut, snapshot, epoch, registered_by, partition_function, partition_count, chunk_rows, codec
)
values (%(cut)s, %(snapshot)s::pg_snapshot, %(epoch)s, %(registered_by)s,
        %(partition_function)s, %(partition_count)s, %(chunk_rows)s, %(codec)s)
returning {CUT_COLUMNS}
"""

# Bound values, not a join with the last cut: only with values can the planner estimate how few rows are new.
LOOK = """
select (select max(cut) from oltp.cuts) as last_cut,
       exists (select from oltp.outbox where xid >= %(xmax)s::xid8)
       or exists (select from oltp.outbox where xid = any(%(xip)s::xid8[])) as has_new
"""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A PostgreSQL `pg_snapshot` as text, ``xmin:xmax:xip,xip,...``, and its parts. Transaction ids have 64 bits."""

    text: str

    @property
    def xmax(self) -> int:
        """The first transaction id that was not yet assigned."""
        return int(self.text.split(":")[1])

    @property
    def in_progress(self) -> tuple[int, ...]:
        """The transactions below `xmax` that had not ended."""
        listed = self.text.split(":")[2]
        return tuple(int(xid) for xid in listed.split(",")) if listed else ()

    def after(self) -> dict[str, str]:
        """Return `xmax` and `xip`, the bound parameters of every query for rows that this snapshot does not see."""
        return {"xmax": str(self.xmax), "xip": "{" + ",".join(map(str, self.in_progress)) + "}"}


BEFORE_ALL = Snapshot(text="3:3:")
"""S(0), which sees nothing. 3 is the first normal transaction id."""


@dataclass(frozen=True, kw_only=True)
class CutShape:
    """The parameters that a registration stores, so that the cut can be recomputed identically."""

    partition_count: int
    chunk_rows: int
    partition_function: str = PARTITION_FUNCTION
    codec: str = CODEC


@dataclass(frozen=True, kw_only=True)
class Cut:
    """One registered cut."""

    cut: int
    snapshot: str
    epoch: str
    registered_at: datetime
    partition_function: str
    partition_count: int
    chunk_rows: int
    codec: str

    def seen(self) -> Snapshot:
        """Return S(cut)."""
        return Snapshot(text=self.snapshot)


@dataclass(frozen=True, kw_only=True)
class ReconcilerCut:
    """A cut with an open snapshot: connections read the pod exactly at the cut while the context is open."""

    cut: int
    epoch: str
    registered_at: datetime
    connection: psycopg.Connection[Any]
    """In a REPEATABLE READ, READ ONLY transaction whose snapshot is S(cut)."""
    exported_snapshot: str
    """For `set transaction snapshot` on further connections."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """The epoch in which a database's cuts are registered now."""

    name: str
    base_cut: int
    """The cut after which a person opened the epoch. Cuts up to it belong to earlier epochs; 0: there are none."""

    def check(self, cut: int, epoch: str, where: str) -> None:
        """Raise EpochChangedError if `cut` is above the base and its `epoch` in `where` is not this one."""
        if cut > self.base_cut:
            check_epoch(self.name, epoch, where)


Connect = Callable[[], psycopg.Connection[Any]]


def cut_shape(settings: Settings) -> CutShape:
    """Return the shape with which this deployment registers cuts."""
    return CutShape(partition_count=settings.partition_count, chunk_rows=settings.chunk_rows)


def current_epoch(connection: psycopg.Connection[Any]) -> Epoch:
    """Return the database's epoch.

    Raises PropagationError on a standby, where no cut may be taken, and EpochChangedError while the opening of an epoch
    is not complete.
    """
    row = connection.execute(SELECT_EPOCH).fetchone()
    assert row is not None
    is_standby, name, base_cut, is_being_opened = row
    if is_standby:
        raise PropagationError(
            "Cuts are taken on a primary only, and this server is a standby; point the pod's DSNs at the primary."
        )
    if is_being_opened:
        raise EpochChangedError(
            "A new epoch is being opened for this database, and its copies are not all brought back yet; finish it "
            "with `tieout open-epoch`."
        )
    return Epoch(name=name, base_cut=base_cut)


def last_cut(connection: psycopg.Connection[Any]) -> Cut | None:
    """Return the cut with the highest number, or None."""
    return connection.cursor(row_factory=class_row(Cut)).execute(SELECT_LAST_CUT).fetchone()


def first_cut(connection: psycopg.Connection[Any]) -> Cut | None:
    """Return the cut with the lowest number that was not pruned, or None."""
    return connection.cursor(row_factory=class_row(Cut)).execute(SELECT_FIRST_CUT).fetchone()


def cuts_from(connection: psycopg.Connection[Any], cut: int, limit: int = 1_000) -> list[Cut]:
    """Return up to `limit` cuts numbered `cut` or higher, in order."""
    cursor = connection.cursor(row_factory=class_row(Cut))
    return cursor.execute(SELECT_CUTS_FROM, {"cut": cut, "limit": limit}).fetchall()


def check_epoch(present: str, known: str, where: str) -> None:
    """Raise EpochChangedError unless the database's epoch `present` equals `known`, the epoch that `where` has."""
    if present != known:
        raise EpochChangedError(
            f"The database's epoch is {present}, but {where} was made in epoch {known}: it was promoted, restored or "
            "cloned; cut numbers may stand for other content now. When it is the right database, open a new epoch with "
            "`tieout open-epoch`."
        )


def look(connection: psycopg.Connection[Any], known: Snapshot) -> tuple[int, bool]:
    """Return (highest registered cut or 0, whether rows are visible that `known` does not see). Takes < 1 ms."""
    row = connection.execute(LOOK, known.after()).fetchone()
    assert row is not None
    return row[0] or 0, row[1]


def register_cut(
    connection: psycopg.Connection[Any], shape: CutShape, *, registered_by: str, is_forced: bool = False
) -> Cut | None:
    """Register the next cut and return it; None when no event is new, unless forced.

    The connection must be in autocommit mode. If another process registers the same number first, we retry. Raises
    EpochChangedError when the last cut belongs to another epoch, PropagationError on a standby.
    """
    configure_registering(connection)
    while True:
        last = last_cut(connection)
        epoch = current_epoch(connection)
        if last is not None:
            epoch.check(last.cut, last.epoch, f"cut {last.cut}")
        if not is_forced and not look(connection, last.seen() if last else BEFORE_ALL)[1]:
            return None
        try:
            return insert_cut(connection, shape, registered_by=registered_by)
        except psycopg.errors.UniqueViolation:
            continue


def configure_registering(connection: psycopg.Connection[Any]) -> None:
    """Set what `insert_cut` needs on a connection in autocommit mode; defaults of role and database may differ."""
    connection.execute(CONFIGURE_REGISTERING)


def insert_cut(connection: psycopg.Connection[Any], shape: CutShape, *, registered_by: str) -> Cut:
    """Register the next cut in one READ COMMITTED statement that is its own transaction.

    The connection is in autocommit mode and configured. Raises UniqueViolation when another process registered first.
    """
    cursor = connection.cursor(row_factory=class_row(Cut))
    cut = cursor.execute(REGISTER_CUT, _stored(shape, registered_by)).fetchone()
    assert cut is not None
    return cut


@contextmanager
def take_reconciler_cut(connect: str | Connect, shape: CutShape, *, registered_by: str) -> Iterator[ReconcilerCut]:
    """Take a cut for a comparison. Its snapshot stays open, so inside the context the reader sees OLTP unchanged.

    `connect` is a DSN or a function that opens a connection; we open two. Keep the context short: an open snapshot
    holds back vacuum. Raises EpochChangedError and PropagationError as `register_cut` does.
    """
    opener = _opener(connect)
    with opener() as reading, opener() as registering:
        registering.set_autocommit(True)
        current_epoch(registering)
        _configure_reading(reading)
        while True:
            row = reading.execute(OPEN_RECONCILER_SNAPSHOT).fetchone()
            assert row is not None
            cut = _register_given(registering, shape, registered_by, row)
            if cut is not None:
                break
            reading.rollback()
        try:
            yield ReconcilerCut(
                cut=cut.cut,
                epoch=cut.epoch,
                registered_at=cut.registered_at,
                connection=reading,
                exported_snapshot=row[2],
            )
        finally:
            reading.rollback()


def _opener(connect: str | Connect) -> Connect:
    if isinstance(connect, str):
        dsn = connect
        return lambda: psycopg.connect(dsn)
    return connect


def _configure_reading(connection: psycopg.Connection[Any]) -> None:
    connection.set_autocommit(False)
    connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
    connection.set_read_only(True)


def _register_given(
    connection: psycopg.Connection[Any], shape: CutShape, registered_by: str, opened: tuple[Any, ...]
) -> Cut | None:
    """Register cut n + 1 with the open snapshot, and commit; None when another process has taken the number."""
    last, snapshot, _ = opened
    epoch, previous = current_epoch(connection), last_cut(connection)
    if previous is not None:
        epoch.check(previous.cut, previous.epoch, f"cut {previous.cut}")
    values = {**_stored(shape, registered_by), "cut": last + 1, "snapshot": snapshot, "epoch": epoch.name}
    try:
        with connection.transaction():
            connection.execute("set local synchronous_commit = on")
            return connection.cursor(row_factory=class_row(Cut)).execute(REGISTER_GIVEN_CUT, values).fetchone()
    except psycopg.errors.UniqueViolation:
        return None


def _stored(shape: CutShape, registered_by: str) -> dict[str, object]:
    return {
        "registered_by": registered_by,
        "partition_function": shape.partition_function,
        "partition_count": shape.partition_count,
        "chunk_rows": shape.chunk_rows,
        "codec": shape.codec,
    }
