"""The witness of a pod's database: it reads the write-ahead log and sees each write without its event.

A committed transaction that touches an aggregate's root or children carries an outbox row of that aggregate, or it
declares a bypass (`oltp.declare_bypass`, which only the owner may call). Everything else is a sighting, whoever wrote
it and with whatever triggers off. An outbox row is never changed, and is deleted by pruning alone. Belongs here: what a
transaction must carry. Does not belong here: the slot (`witness/slot.py`), decoding (`witness/write_ahead.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.sightings import Sighting, SightingKind
from contracts.text import counted
from reconcile.connections import Connection, Connections
from reconcile.sightings import keep_sightings
from reconcile.witness_states import keep_position, kept_position
from witness.slot import CHANGES_AT_ONCE, HEARTBEAT, Slot, SlotState, later
from witness.watching import Look
from witness.write_ahead import Begin, Change, Commit, Decoder, Note, Operation, Row, Truncate, lsn_number, lsn_text

NAME = "oltp"
SCHEMA = "oltp"
OUTBOX, BYPASSES, FLOOR = "outbox", "bypasses", "outbox_floor"
BEAT_SECONDS = 15.0
KEYS_PER_TRANSACTION = 1_000
"""A transaction with more unannounced aggregates than this gives one sighting more, which asks to compare all."""
UNSHOWN = {"payload"}
"""Columns that no sighting repeats: events are long, and the outbox or the lake has them."""

DECLARED = """
select table_name, aggregate_type, id_column from oltp.aggregate_roots
union all select table_name, aggregate_type, id_column from oltp.aggregate_children
"""
HAS_CUTS = "select exists (select from oltp.cuts)"

Aggregate = tuple[str, str]
"""Type and id."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A table of an aggregate."""

    aggregate_type: str
    id_column: str


@dataclass(kw_only=True)
class _Touched:
    """What one transaction did in one table to one aggregate: the first row, and how many."""

    change: Change | None
    rows: int = 0


@dataclass(kw_only=True)
class Reading:
    """Judges transactions one after the other; pure, so that it needs no server."""

    pod: str
    declared: Mapping[str, Declared]
    sightings: list[Sighting] = field(default_factory=list)
    heartbeats: set[bytes] = field(default_factory=set)
    """What heartbeats said."""
    message_count: int = 0
    end_lsn: int = 0
    """Where the last whole transaction ends."""
    _decoder: Decoder = field(default_factory=Decoder)
    _begin: Begin | None = None
    _announced: set[Aggregate] = field(default_factory=set)
    _touched: dict[tuple[str, Aggregate | None], _Touched] = field(default_factory=dict)
    _is_declared: bool = False
    _is_pruning: bool = False

    def read(self, messages: Iterable[bytes]) -> None:
        """Take messages of whole transactions, and collect what is seen in them."""
        for data in messages:
            self.message_count += 1
            match self._decoder.decoded(data):
                case Begin() as begin:
                    self._start(begin)
                case Change() as change if change.schema == SCHEMA:
                    self._take(change)
                case Truncate() as truncate:
                    self._take_truncate(truncate)
                case Note(prefix=prefix, content=content) if prefix == HEARTBEAT:
                    self.heartbeats.add(content)
                case Commit() as commit:
                    self._finish()
                    self.end_lsn = commit.end_lsn

    def _start(self, begin: Begin) -> None:
        self._begin = begin
        self._announced, self._touched = set(), {}
        self._is_declared = self._is_pruning = False

    def _take(self, change: Change) -> None:
        is_insert = change.operation is Operation.INSERT
        if (table := self.declared.get(change.table)) is not None:
            for aggregate in _aggregates(table, change):
                self._touch(change.table, aggregate, change)
        elif change.table == OUTBOX and is_insert and change.after is not None:
            self._announced.add((str(change.after["aggregate_type"]), str(change.after["aggregate_id"])))
        elif change.table == OUTBOX:
            row = {**(change.after or {}), **(change.before or {})}
            self._touch(OUTBOX, (str(row.get("aggregate_type")), str(row.get("aggregate_id"))), change)
        elif change.table == BYPASSES and is_insert:
            self._is_declared = True
        elif change.table == BYPASSES:
            self._touch(BYPASSES, None, change)
        elif change.table == FLOOR:
            self._is_pruning = True

    def _take_truncate(self, truncate: Truncate) -> None:
        for schema, table in truncate.tables:
            if schema == SCHEMA and (table in self.declared or table in {OUTBOX, BYPASSES}):
                self._touch(table, None, None)

    def _touch(self, table: str, aggregate: Aggregate | None, change: Change | None) -> None:
        self._touched.setdefault((table, aggregate), _Touched(change=change)).rows += 1

    def _finish(self) -> None:
        found = [(key, touched) for key, touched in self._touched.items() if not self._is_allowed(*key, touched)]
        for (table, aggregate), touched in found[:KEYS_PER_TRANSACTION]:
            self.sightings.append(self._sighting(table, aggregate, touched))
        if len(found) > KEYS_PER_TRANSACTION:
            more = f"{counted(len(found) - KEYS_PER_TRANSACTION, 'more aggregate')} changed without an event."
            self.sightings.append(self._seen(place=SCHEMA, what=more))

    def _is_allowed(self, table: str, aggregate: Aggregate | None, touched: _Touched) -> bool:
        if table == BYPASSES:
            return False
        if table == OUTBOX:
            is_deleted = touched.change is not None and touched.change.operation is Operation.DELETE
            return self._is_declared or (is_deleted and self._is_pruning)
        return self._is_declared or aggregate in self._announced

    def _sighting(self, table: str, aggregate: Aggregate | None, touched: _Touched) -> Sighting:
        change, place = touched.change, f"{SCHEMA}.{table}"
        if change is None:
            return self._seen(place=place, what=f"{place} was emptied by TRUNCATE.")
        done = {"I": "inserted", "U": "changed", "D": "deleted"}[change.operation.value]
        more = f" (and {touched.rows - 1:,} more of it)" if touched.rows > 1 else ""
        said = "a row that only pruning deletes" if table == OUTBOX else "without an event of this transaction"
        whose = "" if aggregate is None else f" of {aggregate[0]} {aggregate[1]}"
        return self._seen(
            place=place,
            aggregate_id=None if aggregate is None else aggregate[1],
            what=f"A row of {place}{whose} was {done}{more}: {said}.",
            before=_shown(change.before),
            after=_shown(change.after),
        )

    def _seen(self, **values: Any) -> Sighting:
        begin = self._begin
        assert begin is not None
        return Sighting(
            witness=NAME,
            kind=SightingKind.UNANNOUNCED,
            pod=self.pod,
            copy=None,
            transaction=f"{begin.xid} at {begin.commit_lsn:X}",
            written_at=begin.committed_at,
            **values,
        )


@dataclass(kw_only=True)
class OltpWitness:
    """Looks at one pod's write-ahead log. `dsn` is that of the witness's role; empty: there is none."""

    pod: str
    dsn: str
    control_dsn: str
    name: str = NAME
    interval_seconds: float = 1.0
    beat_seconds: float = BEAT_SECONDS
    _beats: dict[bytes, float] = field(default_factory=dict)
    """What heartbeats say that were not seen yet, and when each was written, by the monotonic clock."""
    _beaten: float | None = None
    _flushed: str = ""
    """Where the log ended at the last look; while it ends there, nothing was written."""
    _connections: Connections = field(default_factory=Connections)

    def look_once(self) -> Look:
        """Read what was committed since the last look, store what is seen with the new position, move the slot on."""
        if not self.dsn:
            setting = f"TIEOUT_{self.pod.upper()}_WITNESS_DSN"
            return Look(sightings=0, trouble=f"It has no role in pod {self.pod}: set {setting}.")
        slot = Slot(connection=self._connections.to(self.dsn))
        state = slot.state()
        if trouble := _trouble(state):
            return Look(sightings=0, trouble=trouble)
        if state.is_readable and state.flushed == self._flushed and not self._is_beat_due():
            return Look(sightings=0)
        is_whole, mark = slot.publication()
        if not is_whole:
            return Look(
                sightings=0,
                trouble=f"The publication of pod {self.pod} does not show every table: run `tieout migrate`.",
            )
        stored, _, known_mark = kept_position(self._connections.to(self.control_dsn), NAME, self.pod).partition(" ")
        if reason := _blind_reason(state, stored, known_mark, mark):
            return self._begin_anew(slot, mark, reason, is_first=not stored)
        if self._is_beat_due():
            self._beaten = time.monotonic()
            self._beats[slot.beat()] = self._beaten
            state = slot.state()
        return self._read(slot, state.flushed, mark)

    def _read(self, slot: Slot, upto: str, mark: str) -> Look:
        reading = Reading(pod=self.pod, declared=_declared(slot.connection))
        reading.read(slot.messages(upto))
        # A read that stopped at its limit ends with a whole transaction, before `upto`.
        is_cut_short = reading.message_count >= CHANGES_AT_ONCE
        position = lsn_text(reading.end_lsn) if is_cut_short else later(upto, reading.end_lsn)
        count = self._keep(reading.sightings, f"{position} {mark}")
        slot.advance(position)
        self._flushed = "" if is_cut_short else upto
        seen = [self._beats.pop(said) for said in reading.heartbeats if said in self._beats]
        return Look(sightings=count, proven_seconds_ago=time.monotonic() - max(seen) if seen else None)

    def _begin_anew(self, slot: Slot, mark: str, reason: str, *, is_first: bool) -> Look:
        """Make the slot anew; say what was not seen, unless the pod is new and there was nothing to see."""
        row = slot.connection.execute(HAS_CUTS).fetchone()
        is_new = is_first and not (row and row[0])
        position = slot.make_anew()
        blind = Sighting(
            witness=NAME,
            kind=SightingKind.BLIND,
            pod=self.pod,
            copy=None,
            place="write-ahead log",
            what=f"{reason} What was written before {position} was not seen.",
            transaction=f"before {position}",
        )
        count = self._keep([] if is_new else [blind], f"{position} {mark}")
        self._beats.clear()
        self._beaten, self._flushed = None, ""
        return Look(sightings=count)

    def _keep(self, sightings: Sequence[Sighting], position: str) -> int:
        control = self._connections.to(self.control_dsn)
        with control.transaction():
            count = keep_sightings(control, sightings)
            keep_position(control, NAME, self.pod, position)
        return count

    def _is_beat_due(self) -> bool:
        return self._beaten is None or time.monotonic() - self._beaten >= self.beat_seconds

    def close(self) -> None:
        """Close the connections; the slot stays, and keeps what is not read yet."""
        self._connections.close()


def _trouble(state: SlotState) -> str:
    """Return why this server can have no slot that is safe; empty when it can."""
    if state.level != "logical":
        return f"The server has wal_level = {state.level}: set it to logical and restart the server."
    if state.kept == "-1":
        return "The server has no max_slot_wal_keep_size: set it (e.g. 1GB), or a slot could fill its disk."
    return ""


def _blind_reason(state: SlotState, stored: str, known_mark: str, mark: str) -> str:
    """Return why the slot does not continue what was seen; empty when it does."""
    if not state.is_there:
        return "The slot is gone." if stored else "The slot was not there."
    if not state.is_readable:
        return "The slot was overtaken: the server has removed log that was not read yet."
    if not stored:
        return "The control database knows no position of the slot."
    if lsn_number(str(state.confirmed)) > lsn_number(stored):
        return f"Somebody else has moved the slot on, from {stored} to {state.confirmed}."
    if lsn_number(state.flushed) < lsn_number(stored):
        return f"The database was set back: its log ends at {state.flushed}, before {stored}."
    if known_mark != mark:
        return "The publication was changed."
    return ""


def _declared(connection: Connection) -> dict[str, Declared]:
    rows = connection.execute(DECLARED).fetchall()
    return {table: Declared(aggregate_type=kind, id_column=column) for table, kind, column in rows}


def _aggregates(table: Declared, change: Change) -> set[Aggregate | None]:
    """Return whose row it is: two when it was moved from one aggregate to another, None when the log does not tell."""
    rows = [row for row in (change.before, change.after) if row is not None]
    ids = {row[table.id_column] for row in rows if row.get(table.id_column) is not None}
    return {(table.aggregate_type, str(found)) for found in ids} or {None}


def _shown(row: Row | None) -> dict[str, str | None] | None:
    return None if row is None else {name: value for name, value in row.items() if name not in UNSHOWN}
