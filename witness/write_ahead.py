"""Decodes the messages of PostgreSQL's `pgoutput` plugin, protocol version 1.

Belongs here: bytes into values; nothing is asked of a server. Does not belong here: reading the slot, and what a change
means (`witness/oltp.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from struct import Struct

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Where PostgreSQL's timestamps begin."""
SHORT, INTEGER, LONG = Struct(">H"), Struct(">I"), Struct(">Q")

Row = Mapping[str, str | None]
"""A row by column, in PostgreSQL's text form. A large value that was not changed, and so not sent, is absent."""
NULL, UNCHANGED, OLD, NEW = b"nuON"
MARKS = frozenset({NULL, UNCHANGED})
"""What stands for a value without bytes of its own."""


class Operation(StrEnum):
    """What a change did."""

    INSERT = "I"
    UPDATE = "U"
    DELETE = "D"


@dataclass(frozen=True, kw_only=True)
class Begin:
    """A committed transaction follows, up to its Commit."""

    xid: int
    commit_lsn: int
    committed_at: datetime


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row of one table."""

    schema: str
    table: str
    operation: Operation
    before: Row | None
    """The old row, or the columns of its replica identity; None when the log does not tell."""
    after: Row | None


@dataclass(frozen=True, kw_only=True)
class Truncate:
    """Tables, with their schemas, that were emptied."""

    tables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Note:
    """A message that somebody wrote into the log with `pg_logical_emit_message`."""

    prefix: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The end of a transaction."""

    end_lsn: int


Message = Begin | Change | Truncate | Note | Commit


@dataclass(frozen=True, kw_only=True)
class _Table:
    schema: str
    name: str
    columns: Mapping[str, int]
    """The position of each."""


class _Reader:
    """Reads one message from its beginning to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 1

    def number(self, size: Struct) -> int:
        value: int = size.unpack_from(self._data, self._at)[0]
        self._at += size.size
        return value

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def text(self) -> str:
        end = self._data.index(0, self._at)
        value = self._data[self._at : end].decode()
        self._at = end + 1
        return value

    def taken(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def moment(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.number(LONG))

    def row(self, columns: Mapping[str, int]) -> _SentRow:
        row = self.last_row(columns)
        self._at = row.start_of(len(columns))
        return row

    def last_row(self, columns: Mapping[str, int]) -> _SentRow:
        """Return the row that ends the message; nobody has to walk to its end."""
        return _SentRow(columns, self._data, self._at)


class _SentRow(Row):
    """A row as it was sent; most readers need one or two of its columns, so the others are only passed over."""

    __slots__ = ("_at", "_columns", "_data")

    def __init__(self, columns: Mapping[str, int], data: bytes, at: int) -> None:
        self._columns, self._data, self._at = columns, data, at

    def start_of(self, position: int) -> int:
        """Return where the column at `position` begins; after the last one, where the row ends."""
        data, at = self._data, self._at + SHORT.size
        for _ in range(position):
            # Null and unchanged values are this one byte, others have their length behind it.
            at += 1 if data[at] in MARKS else 5 + int.from_bytes(data[at + 1 : at + 5], "big")
        return at

    def __getitem__(self, column: str) -> str | None:
        at, data = self.start_of(self._columns[column]), self._data
        if data[at] == UNCHANGED:
            raise KeyError(column)
        if data[at] == NULL:
            return None
        begin = at + 5
        return data[begin : begin + int.from_bytes(data[at + 1 : begin], "big")].decode()

    def __iter__(self) -> Iterator[str]:
        return (column for column, number in self._columns.items() if self._data[self.start_of(number)] != UNCHANGED)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Decoder:
    """Decodes the messages of one read of a slot in their order; each read describes its tables anew."""

    def __init__(self) -> None:
        self._tables: dict[int, _Table] = {}
        self._kinds: dict[int, Callable[[_Reader], Message | None]] = {
            ord("B"): _begin,
            ord("C"): _commit,
            ord("R"): self._relation,
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("T"): self._truncate,
            ord("M"): _note,
            ord("O"): lambda _: None,
            ord("Y"): lambda _: None,
        }

    def decoded(self, data: bytes) -> Message | None:
        """Return what a message says; None for one that only describes others. ValueError: it is of no known kind."""
        kind = self._kinds.get(data[0])
        if kind is None:
            raise ValueError(f"pgoutput sent a message of the unknown kind {data[:1]!r}")
        return kind(_Reader(data))

    def _relation(self, reader: _Reader) -> None:
        number, schema, name = reader.number(INTEGER), reader.text(), reader.text()
        reader.byte()  # the replica identity; each change says itself what it has of the old row
        columns = []
        for _ in range(reader.number(SHORT)):
            reader.byte()
            columns.append(reader.text())
            reader.taken(2 * INTEGER.size)
        self._tables[number] = _Table(
            schema=schema, name=name, columns={column: position for position, column in enumerate(columns)}
        )

    def _insert(self, reader: _Reader) -> Change:
        table = self._tables[reader.number(INTEGER)]
        reader.byte()
        return _change(table, Operation.INSERT, None, reader.last_row(table.columns))

    def _update(self, reader: _Reader) -> Change:
        table = self._tables[reader.number(INTEGER)]
        before, kind = None, reader.byte()
        if kind != NEW:
            before = _old_row(reader, table, kind)
            reader.byte()
        return _change(table, Operation.UPDATE, before, reader.last_row(table.columns))

    def _delete(self, reader: _Reader) -> Change:
        table = self._tables[reader.number(INTEGER)]
        return _change(table, Operation.DELETE, _old_row(reader, table, reader.byte()), None)

    def _truncate(self, reader: _Reader) -> Truncate:
        count = reader.number(INTEGER)
        reader.byte()
        tables = [self._tables[reader.number(INTEGER)] for _ in range(count)]
        return Truncate(tables=tuple((table.schema, table.name) for table in tables))


def _begin(reader: _Reader) -> Begin:
    commit_lsn, committed_at = reader.number(LONG), reader.moment()
    return Begin(xid=reader.number(INTEGER), commit_lsn=commit_lsn, committed_at=committed_at)


def _commit(reader: _Reader) -> Commit:
    reader.taken(1 + LONG.size)
    return Commit(end_lsn=reader.number(LONG))


def _note(reader: _Reader) -> Note:
    reader.taken(1 + LONG.size)
    prefix = reader.text()
    return Note(prefix=prefix, content=reader.taken(reader.number(INTEGER)))


def _old_row(reader: _Reader, table: _Table, kind: int) -> Row:
    row = reader.row(table.columns)
    # Of a key, the columns that do not belong to it come as null.
    return row if kind == OLD else {name: value for name, value in row.items() if value is not None}


def _change(table: _Table, operation: Operation, before: Row | None, after: Row | None) -> Change:
    return Change(schema=table.schema, table=table.name, operation=operation, before=before, after=after)


def lsn_number(text: str) -> int:
    """Return a position in the log, e.g. ``0/16B3748``, as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_text(number: int) -> str:
    """Return a position in the log as PostgreSQL writes it."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"
