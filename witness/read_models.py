"""The witness of the read models: it reads their write-ahead log and sees each write that no consumer made.

Whoever of ours writes a read model says so in the same transaction, by a message in the log that names the read model:
the consumer with its positions, a rebuild, a skip, an opening of an epoch, a migration. Every other transaction on its
tables, positions or parked events is a sighting. Belongs here: what a transaction must carry, and whose row it is. Does
not belong here: the look (`witness/slot_witness.py`), the message's writers (`derived/read_models/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import md5
from uuid import UUID

from contracts.announcements import VIEW_WRITER
from contracts.ownership import READ_MODELS, SERVED_TABLES
from contracts.sightings import Sighting
from contracts.text import counted
from reconcile.connections import Connection
from witness.slot_witness import SlotWitness
from witness.transactions import Reading, Touched, shown, what_was_done
from witness.write_ahead import Change, Note, Operation, Row

NAME = "read_models"
SCHEMA = "read_models"
SETTING = "TIEOUT_READ_MODELS_WITNESS_DSN"
COPY_OF = {table: copy.name for copy in READ_MODELS for table in copy.tables}
"""Table -> its read model."""
KEPT = ("parked_events", "positions", "skipped_events")
"""Tables whose rows name their read model."""
UNSHOWN = frozenset({"event"})
SUMS = "select distinct sum_table, group_columns from read_models.sum_parts"
HAS_POSITIONS = "select exists (select from read_models.positions)"


@dataclass(frozen=True, kw_only=True)
class Whose:
    """Whose row it is; `copy` None: the log does not tell the read model."""

    copy: str | None
    pod: str
    aggregate_id: str | None


@dataclass(kw_only=True)
class ViewReading(Reading[Whose]):
    """Judges transactions of the read models' database."""

    witness: str = NAME
    schema: str = SCHEMA
    sums: Mapping[str, Sequence[str]]
    """Sum table -> the columns of its group, of which its id is made."""
    _writers: set[str] = field(default_factory=set)
    """The read models whose writer wrote this transaction."""

    def start(self) -> None:
        """Forget what the transaction before carried."""
        self._writers = set()

    def take_note(self, note: Note) -> None:
        """Take what a writer says of its transaction."""
        if note.prefix == VIEW_WRITER:
            self._writers.add(note.content.decode(errors="replace"))

    def take(self, change: Change) -> None:
        """Take a changed row; one that was moved to another aggregate is of both."""
        for whose in {self._whose(change.table, row) for row in (change.before, change.after) if row is not None}:
            self.touch(change.table, whose, change)

    def is_watched(self, table: str) -> bool:
        """Return whether nobody but a writer of ours may empty a table."""
        return table in COPY_OF or table in KEPT

    def is_allowed(self, table: str, whose: Whose | None, touched: Touched) -> bool:
        """Return whether the read model's writer says that it wrote this."""
        copy = COPY_OF.get(table) if whose is None else whose.copy
        return copy in self._writers if copy else self._writers >= {one.name for one in READ_MODELS}

    def found(self, table: str, whose: Whose | None, touched: Touched) -> Iterator[Sighting]:
        """Yield what is seen of a row, once for each read model that must be compared."""
        whose = whose or Whose(copy=COPY_OF.get(table), pod="", aggregate_id=None)
        change, place = touched.change, f"{SCHEMA}.{table}"
        # The log does not have the pod from before, in which the row is missing if the pod was changed.
        is_update = change is not None and change.operation is Operation.UPDATE
        copies = [whose.copy] if whose.copy else [one.name for one in READ_MODELS]
        of = f" of {whose.aggregate_id}" if whose.aggregate_id else ""
        for copy in copies:
            yield self.seen(
                pod="" if table in COPY_OF and is_update else whose.pod,
                copy=copy,
                place=place if whose.copy else f"{place}, {copy}",
                aggregate_id=whose.aggregate_id,
                what=what_was_done(place, of, touched, "by no writer of the read model"),
                before=shown(change.before, UNSHOWN) if change else None,
                after=shown(change.after, UNSHOWN) if change else None,
            )

    def found_more(self, rest: Sequence[tuple[str, Whose | None]]) -> Iterator[Sighting]:
        """Yield what asks to compare the read models completely that were touched."""
        copies = [COPY_OF.get(table) if whose is None else whose.copy for table, whose in rest]
        for copy in READ_MODELS:
            if count := sum(found in (copy.name, None) for found in copies):
                what = f"{counted(count, 'more aggregate')} changed by no writer of the read model."
                yield self.seen(pod="", copy=copy.name, place=f"{SCHEMA}, {copy.name}", what=what)

    def _whose(self, table: str, row: Row) -> Whose:
        if table in KEPT:
            copy = row.get("projection")
            known = copy if copy in COPY_OF.values() else None
            _, _, key = (row.get("aggregate_key") or "").partition("/")
            return Whose(copy=known, pod=row.get("pod") or "", aggregate_id=key.partition("/")[2] or None)
        if (group := self.sums.get(table)) is not None:
            # The log leaves computed columns out, so the id is computed again.
            named = "/".join(row.get(column) or "" for column in group)
            found: str | None = str(UUID(md5(named.encode(), usedforsecurity=False).hexdigest()))
        else:
            # Every table's key begins with the merchant and the aggregate's id.
            found = list(row.values())[1] if len(row) > 1 else None
        return Whose(copy=COPY_OF.get(table), pod=row.get("pod") or "", aggregate_id=found)


@dataclass(kw_only=True)
class ReadModelsWitness(SlotWitness):
    """Looks at the write-ahead log of the read models' database, for all pods."""

    SCHEMA = SCHEMA
    EXPECTED = "values " + ", ".join(f"('{table}')" for table in (*SERVED_TABLES, *KEPT))

    name: str = NAME
    pod: str = ""

    @property
    def place(self) -> str:
        """Return the database's name for people."""
        return "the read models"

    @property
    def setting(self) -> str:
        """Return the setting that holds the role's DSN."""
        return SETTING

    def reading(self, connection: Connection) -> ViewReading:
        """Return what judges the next transactions, by the sums that are declared now."""
        return ViewReading(sums={table: tuple(group) for table, group in connection.execute(SUMS).fetchall()})

    def is_new(self, connection: Connection) -> bool:
        """Return whether no consumer has begun yet."""
        row = connection.execute(HAS_POSITIONS).fetchone()
        return not (row and row[0])

    def copies(self) -> Sequence[str | None]:
        """Return every read model."""
        return [copy.name for copy in READ_MODELS]
