"""A logical replication slot of one database: made, read from where the witness stands, moved on.

Belongs here: the slot, its health, and the heartbeat that goes through it. Does not belong here: the messages
(`witness/write_ahead.py`), what is seen in them (`witness/transactions.py`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from witness.write_ahead import lsn_number, lsn_text

PUBLICATION = "tieout_witness"
HEARTBEAT = "tieout.witness"
"""The prefix of a heartbeat in the log."""
CHANGES_AT_ONCE = 20_000
ROWS_AT_ONCE = 1_000

NAME = "select 'tieout_witness_' || oid from pg_database where datname = current_database()"
STATE = """
select
    current_setting('wal_level') as level,
    current_setting('max_slot_wal_keep_size') as kept,
    pg_current_wal_flush_lsn()::text as flushed,
    slot.confirmed_flush_lsn::text as confirmed,
    coalesce(slot.wal_status, '') as status,
    slot.slot_name is not null as is_there
from (select %(slot)s::text as name) as ours
left join pg_replication_slots as slot on ours.name = slot.slot_name and slot.database = current_database()
"""
# What the publication lets through, and a mark that changes when somebody changes it, also when it was changed back.
SHOWN = """
select
    (select array_agg(table_name order by table_name) from ({expected}) as expected (table_name)) = (
        select array_agg(cls.relname::text order by cls.relname::text)
        from pg_publication_rel as rel inner join pg_class as cls on cls.oid = rel.prrelid
        where rel.prpubid = publication.oid and rel.prqual is null and rel.prattrs is null
            and cls.relnamespace = to_regnamespace(%(schema)s) and cls.relpersistence = 'p'
    )
    and pubinsert and pubupdate and pubdelete and pubtruncate as is_whole,
    md5(publication.xmin::text || (
        select string_agg(prrelid || ':' || xmin, ',' order by prrelid)
        from pg_publication_rel where prpubid = publication.oid
    )) as mark
from pg_publication as publication where pubname = %(publication)s
"""
PEEK = """
select data from pg_logical_slot_peek_binary_changes(
    %(slot)s, %(upto)s::pg_lsn, %(limit)s,
    'proto_version', '1', 'publication_names', %(publication)s, 'messages', 'true'
)
"""
# The server refuses to move a slot back, also by nothing.
ADVANCE = """
select pg_replication_slot_advance(slot_name, %(position)s::pg_lsn)
from pg_replication_slots
where slot_name = %(slot)s and confirmed_flush_lsn < %(position)s::pg_lsn
"""


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """What the server says of the slot."""

    level: str
    kept: str
    flushed: str
    confirmed: str | None
    status: str
    is_there: bool

    @property
    def is_readable(self) -> bool:
        """Return whether the slot still has all that was not read."""
        # One whose reserve is used up ("unreserved") is still read, and moves on by that.
        return self.is_there and self.status != "lost" and self.confirmed is not None


@dataclass(kw_only=True)
class Slot:
    """The slot of one database, by a connection of the witness's role in autocommit mode."""

    connection: psycopg.Connection[Any]
    schema: str
    expected: str
    """The query that gives the tables of the schema which the publication must show."""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Find the name: slots belong to the whole server, so each database has one of its own name."""
        self.name = self._one(NAME)[0]

    def state(self) -> SlotState:
        """Ask the server how the slot is."""
        row = self._one(STATE)
        return SlotState(**row._asdict())

    def publication(self) -> tuple[bool, str]:
        """Return whether the publication shows every expected table wholly, and the mark of its present form."""
        query = SHOWN.format(expected=self.expected)
        row = self.connection.execute(query, {"publication": PUBLICATION, "schema": self.schema}).fetchone()
        return (False, "") if row is None else (bool(row[0]), str(row[1]))

    def make_anew(self) -> str:
        """Drop the slot if it is there, and create it; return its position."""
        self.connection.execute(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s", (self.name,)
        )
        return str(self._one("select lsn::text from pg_create_logical_replication_slot(%(slot)s, 'pgoutput')")[0])

    def messages(self, upto: str) -> Iterator[bytes]:
        """Yield the messages of whole transactions after the slot's position, oldest first; they stay in the slot."""
        bound = {"slot": self.name, "upto": upto, "limit": CHANGES_AT_ONCE, "publication": PUBLICATION}
        with self.connection.cursor(binary=True) as cursor:
            for (data,) in cursor.stream(PEEK, bound, size=ROWS_AT_ONCE):
                yield data

    def advance(self, position: str) -> None:
        """Forget what is before `position`; its sightings are stored."""
        self.connection.execute(ADVANCE, {"slot": self.name, "position": position})

    def beat(self) -> bytes:
        """Write a heartbeat into the log, and return what it says; nobody else can know it before."""
        said = secrets.token_hex(16)
        self.connection.execute("select pg_logical_emit_message(true, %s, %s::text)", (HEARTBEAT, said))
        return said.encode()

    def _one(self, query: str) -> Any:
        bound = {"slot": self.__dict__.get("name", "")}
        return self.connection.cursor(row_factory=namedtuple_row).execute(query, bound).fetchone()


def later(position: str, other: int) -> str:
    """Return the later of two positions."""
    return lsn_text(max(lsn_number(position), other))
