"""The witness of a pod's database: it reads the write-ahead log and sees each write without its event.

A committed transaction that touches an aggregate's root or children carries an outbox row of that aggregate. Everything
else is a sighting, whoever wrote it and with whatever triggers off. Where the transaction declares a bypass
(`oltp.declare_bypass`, which only the owner may call) the sighting accuses nobody, but a comparison looks at it all the
same. An outbox row is never changed, and is deleted by pruning alone. Belongs here: what a transaction must carry. Does
not belong here: the look (`witness/slot_witness.py`), decoding (`witness/write_ahead.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.sightings import Sighting, SightingKind
from contracts.text import counted
from reconcile.connections import Connection
from witness.slot_witness import SlotWitness
from witness.transactions import Reading, Touched, shown, what_was_done
from witness.write_ahead import Change, Operation

NAME = "oltp"
SCHEMA = "oltp"
OUTBOX, BYPASSES, FLOOR = "outbox", "bypasses", "outbox_floor"
UNSHOWN = frozenset({"payload"})
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
class PodReading(Reading[Aggregate]):
    """Judges the transactions of one pod."""

    witness: str = NAME
    schema: str = SCHEMA
    pod: str
    declared: Mapping[str, Declared]
    _announced: set[Aggregate] = field(default_factory=set)
    _bypass: str | None = None
    """The reason that the transaction declares for writing past the rules; None: it declares none."""
    _is_pruning: bool = False

    def start(self) -> None:
        """Forget what the transaction before carried."""
        self._announced = set()
        self._bypass, self._is_pruning = None, False

    def take(self, change: Change) -> None:
        """Take a changed row: of an aggregate, of the outbox, or the mark of a bypass or a pruning."""
        is_insert = change.operation is Operation.INSERT
        if (table := self.declared.get(change.table)) is not None:
            for aggregate in _aggregates(table, change):
                self.touch(change.table, aggregate, change)
        elif change.table == OUTBOX and is_insert and change.after is not None:
            self._announced.add((str(change.after["aggregate_type"]), str(change.after["aggregate_id"])))
        elif change.table == OUTBOX:
            row = {**(change.after or {}), **(change.before or {})}
            self.touch(OUTBOX, (str(row.get("aggregate_type")), str(row.get("aggregate_id"))), change)
        elif change.table == BYPASSES and is_insert:
            self._bypass = str((change.after or {}).get("reason"))
        elif change.table == BYPASSES:
            self.touch(BYPASSES, None, change)
        elif change.table == FLOOR:
            self._is_pruning = True

    def is_watched(self, table: str) -> bool:
        """Return whether a table must never be emptied."""
        return table in self.declared or table in {OUTBOX, BYPASSES}

    def is_allowed(self, table: str, whose: Aggregate | None, touched: Touched) -> bool:
        """Return whether an event or a pruning of the same transaction allows it."""
        if table == BYPASSES:
            return False
        if table == OUTBOX:
            is_deleted = touched.change is not None and touched.change.operation is Operation.DELETE
            return is_deleted and self._is_pruning
        return whose in self._announced

    def found(self, table: str, whose: Aggregate | None, touched: Touched) -> Iterator[Sighting]:
        """Yield what is seen of an aggregate's row."""
        change, place = touched.change, f"{SCHEMA}.{table}"
        said = "a row that only pruning deletes" if table == OUTBOX else "without an event of this transaction"
        if (kind := self._kind(table)) is SightingKind.DECLARED:
            said = f"a declared bypass ({self._bypass})"
        of = "" if whose is None else f" of {whose[0]} {whose[1]}"
        yield self.seen(
            kind,
            pod=self.pod,
            copy=None,
            place=place,
            aggregate_id=None if whose is None else whose[1],
            what=what_was_done(place, of, touched, said),
            before=shown(change.before, UNSHOWN) if change else None,
            after=shown(change.after, UNSHOWN) if change else None,
        )

    def found_more(self, rest: Sequence[tuple[str, Aggregate | None]]) -> Iterator[Sighting]:
        """Yield what asks to compare the whole pod."""
        what = f"{counted(len(rest), 'more aggregate')} changed without an event."
        yield self.seen(self._kind(SCHEMA), pod=self.pod, copy=None, place=SCHEMA, what=what)

    def _kind(self, table: str) -> SightingKind:
        """Return what a write to a table is that no event allows; nobody may declare away the record of a bypass."""
        is_declared = self._bypass is not None and table != BYPASSES
        return SightingKind.DECLARED if is_declared else SightingKind.UNANNOUNCED


@dataclass(kw_only=True)
class OltpWitness(SlotWitness):
    """Looks at one pod's write-ahead log."""

    SCHEMA = SCHEMA
    EXPECTED = """
        select table_name from oltp.aggregate_roots
        union all select table_name from oltp.aggregate_children
        union all values ('bypasses'), ('outbox'), ('outbox_floor')
    """

    name: str = NAME

    @property
    def place(self) -> str:
        """Return the pod's name for people."""
        return f"pod {self.pod}"

    @property
    def setting(self) -> str:
        """Return the setting that holds the role's DSN."""
        return f"TIEOUT_{self.pod.upper()}_WITNESS_DSN"

    def reading(self, connection: Connection) -> PodReading:
        """Return what judges the next transactions, by the tables that are declared now."""
        return PodReading(pod=self.pod, declared=_declared(connection))

    def is_new(self, connection: Connection) -> bool:
        """Return whether the pod has no cut yet."""
        row = connection.execute(HAS_CUTS).fetchone()
        return not (row and row[0])

    def copies(self) -> Sequence[str | None]:
        """Return that OLTP itself must be compared."""
        return [None]


def _declared(connection: Connection) -> dict[str, Declared]:
    rows = connection.execute(DECLARED).fetchall()
    return {table: Declared(aggregate_type=kind, id_column=column) for table, kind, column in rows}


def _aggregates(table: Declared, change: Change) -> set[Aggregate | None]:
    """Return whose row it is: two when it was moved from one aggregate to another, None when the log does not tell."""
    rows = [row for row in (change.before, change.after) if row is not None]
    ids = {found for row in rows if (found := row.get(table.id_column)) is not None}
    return {(table.aggregate_type, found) for found in ids} or {None}
