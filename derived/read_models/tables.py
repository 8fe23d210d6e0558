"""Tables of a read model: which aggregate fills which table, and the SQL that writes their rows.

Belongs here: the declaration of a table and its writes, for any table. Does not belong here: columns and their meaning
(modules named after it), positions (`positions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from contracts.events.common import AggregateState
from derived.postgres_errors import is_of_content

Cursor = psycopg.Cursor[tuple[Any, ...]]

SCHEMA = "read_models"


class RootRow(msgspec.Struct, frozen=True, kw_only=True):
    """The row of one aggregate. Subclasses name their table's columns; the first two are the key.

    Each has `directory_epoch` with the first one as its default: `decoding.py` sets that of the event.
    """


class ChildRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of several rows of an aggregate; the first two columns are the aggregate's key."""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A table with any number of rows per aggregate, replaced together with the root row."""

    table: str
    row_type: type[ChildRow]
    rows: Callable[[Any], Sequence[ChildRow]]
    """From a state."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """A table with one row per aggregate of one type, guarded by directory epoch and version, and within
    an epoch of its pod's database.
    """

    table: str
    state_type: type[AggregateState]
    row_type: type[RootRow]
    row: Callable[[Any, str, str], RootRow | None]
    """From (state, pod, epoch); None: this aggregate is not in the view."""
    child: Child | None = None

    @property
    def aggregate_type(self) -> str:
        """Return the type of the aggregates that fill it."""
        return self.state_type.AGGREGATE_TYPE

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the column names, in the order of the row type."""
        return self.row_type.__struct_fields__

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the names of its tables."""
        return (self.table, self.child.table) if self.child else (self.table,)

    @property
    def has_guests(self) -> bool:
        """Return whether it has rows of guests: not where every row must name a customer."""
        return all(
            field.type is not str for field in msgspec.structs.fields(self.row_type) if field.name == "customer_id"
        )

    @property
    def row_types(self) -> dict[str, type[msgspec.Struct]]:
        """Return the type of the rows of each of its tables."""
        return {self.table: self.row_type, **({self.child.table: self.child.row_type} if self.child else {})}

    @property
    def key_columns(self) -> tuple[str, str]:
        """Return merchant_id and the column of the aggregate's id."""
        return self.columns[0], self.columns[1]


class Absent(NamedTuple):
    """An aggregate that a version says is not in the view."""

    merchant_id: str
    aggregate_id: str
    pod: str
    epoch: str
    directory_epoch: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """What events say a root table (and its child) must hold for some keys."""

    rows: Sequence[RootRow]
    children: Sequence[ChildRow]
    absent: Sequence[Absent]
    """Aggregates that are not in the view."""


def prepare(cursor: Cursor, roots: Iterable[Root]) -> None:
    """Create the session's staging tables, once per connection."""
    for root in roots:
        cursor.execute(
            sql.SQL("create temp table {} (like {}) on commit delete rows").format(_staging(root), _name(root.table))
        )


def write(cursor: Cursor, root: Root, content: Content) -> None:
    """Insert or update rows that are older than `content`, or of another epoch of its pod; leave newer ones alone.

    Versions grow over pods, and of one version in two pods that of the higher directory epoch stands: so a consumer of
    the pod where an aggregate was before never takes its row back, whatever comes first.
    """
    if content.absent:
        _delete_absent(cursor, root, content.absent)
    if not content.rows:
        return
    _copy(cursor, _staging(root), root.columns, content.rows)
    cursor.execute(_upsert(root))
    if root.child is not None:
        _replace_children(cursor, root, root.child, cursor.fetchall(), content.children)


def insert(cursor: Cursor, root: Root, content: Content) -> bool:
    """Write rows whose keys have none; False, and nothing written, if one has (then `write` decides by version), or if
    one cannot be stored.

    COPY straight into the tables: a third of the work of `write`.
    """
    try:
        with cursor.connection.transaction():
            if content.absent:
                _delete_absent(cursor, root, content.absent)
            if content.rows:
                _copy(cursor, _name(root.table), root.columns, content.rows)
            if content.rows and root.child is not None:
                keys = [msgspec.structs.astuple(row)[:2] for row in content.rows]
                cursor.execute(_delete(root, root.child.table), _columns_of(keys))
                _copy(cursor, _name(root.child.table), root.child.row_type.__struct_fields__, content.children)
    except (psycopg.Error, UnicodeError) as error:
        if is_of_content(error):
            return False
        raise
    return True


def digests(cursor: Cursor, root: Root, keys: Sequence[tuple[str, str]]) -> set[tuple[str, ...]]:
    """Return what is stored of the aggregates with these (merchant_id, id): table, key and a digest of the rows."""
    found: set[tuple[str, ...]] = set()
    for name in root.tables:
        merchant, identifier = map(sql.Identifier, root.key_columns)
        query = sql.SQL(
            """select present.{merchant_id}, present.{id}, md5(string_agg(present::text, '|' order by present::text))
               from {table} as present join unnest(%s::text[], %s::text[]) as asked (merchant, identifier)
                 on present.{merchant_id} = asked.merchant and present.{id} = asked.identifier group by 1, 2"""
        ).format(table=_name(name), merchant_id=merchant, id=identifier)
        found |= {(name, *row) for row in cursor.execute(query, _columns_of(keys)).fetchall()}
    return found


def digest_of_pod(cursor: Cursor, root: Root, pod: str) -> tuple[Any, ...]:
    """Return number and digest of a pod's rows of the root table and its child, whatever their order."""
    merchant, identifier = map(sql.Identifier, root.key_columns)
    found: list[Any] = []
    for name in root.tables:
        join = (
            sql.SQL("")
            if name == root.table
            else sql.SQL("join {} as root using ({}, {})").format(_name(root.table), merchant, identifier)
        )
        owner = sql.SQL("present" if name == root.table else "root")
        query = sql.SQL(
            "select count(*), coalesce(sum(hashtextextended(present::text, 0)), 0) from {} as present {} "
            "where {}.pod = %s"
        ).format(_name(name), join, owner)
        found += cursor.execute(query, [pod]).fetchall()
    return tuple(found)


def clear_staging(cursor: Cursor, root: Root) -> None:
    """Empty the staging table, for the next `write` of the same transaction."""
    cursor.execute(sql.SQL("truncate {}").format(_staging(root)))


def delete_keys(cursor: Cursor, root: Root, keys: Sequence[tuple[str, str]], pod: str) -> int:
    """Delete everything that a pod has put there of the aggregates with these (merchant_id, id); return the root rows.

    A row of another pod is not this pod's to delete: the aggregate has moved there.
    """
    merchants, ids = _columns_of(keys)
    cursor.execute(_delete_of_pod(root), {"merchants": merchants, "ids": ids, "pod": pod})
    gone = [(str(merchant), str(identifier)) for merchant, identifier in cursor.fetchall()]
    if root.child is not None:
        # Parts without a root are nobody's: they go with the keys that have no root now.
        cursor.execute(_delete_orphans(root, root.child), {"merchants": merchants, "ids": ids})
    return len(gone)


def by_pod(cursor: Cursor, root: Root, keys: Sequence[tuple[str, str]]) -> dict[str, set[tuple[str, str]]]:
    """Return which of the aggregates with these (merchant_id, id) have a row, by the pod that it says it is of."""
    merchant, identifier = map(sql.Identifier, root.key_columns)
    query = sql.SQL(
        """select present.pod, present.{merchant_id}, present.{id} from {table} as present
           join unnest(%s::text[], %s::text[]) as asked (merchant, identifier)
             on present.{merchant_id} = asked.merchant and present.{id} = asked.identifier"""
    ).format(table=_name(root.table), merchant_id=merchant, id=identifier)
    found: dict[str, set[tuple[str, str]]] = {}
    for pod, merchant_id, aggregate_id in cursor.execute(query, _columns_of(keys)).fetchall():
        found.setdefault(pod, set()).add((merchant_id, aggregate_id))
    return found


def _delete_absent(cursor: Cursor, root: Root, absent: Sequence[Absent]) -> None:
    """Delete the rows of aggregates that are in the view no more, where they are not newer."""
    names = ("merchants", "ids", "pods", "epochs", "directory_epochs", "versions")
    values = dict(zip(names, (list(column) for column in zip(*absent, strict=True)), strict=True))
    cursor.execute(_delete_older(root), values)
    if root.child is not None:
        cursor.execute(_delete_orphans(root, root.child), values)


def delete_pod(cursor: Cursor, root: Root, pod: str, *, except_keys: Sequence[tuple[str, str]]) -> int:
    """Delete everything of a pod but `except_keys`; return the number of root rows."""
    merchants, ids = _columns_of(except_keys)
    values = {"pod": pod, "merchants": merchants, "ids": ids}
    if root.child is not None:
        cursor.execute(_delete_pod_children(root, root.child), values)
    cursor.execute(_delete_pod(root), values)
    return cursor.rowcount


def _name(table: str) -> sql.Composable:
    return sql.Identifier(SCHEMA, table)


def _staging(root: Root) -> sql.Composable:
    return sql.Identifier("pg_temp", f"incoming_{root.table}")


def _identifiers(names: Iterable[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _columns_of(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys]


def _copy(cursor: Cursor, table: sql.Composable, columns: Sequence[str], rows: Iterable[RootRow | ChildRow]) -> None:
    with cursor.copy(sql.SQL("copy {} ({}) from stdin").format(table, _identifiers(columns))) as copy:
        for row in rows:
            copy.write_row(msgspec.structs.astuple(row))


def _upsert(root: Root) -> sql.Composed:
    changed = root.columns[2:]
    return sql.SQL(
        """insert into {table} as present ({columns}) select {columns} from {staging}
           on conflict ({key}) do update set ({changed}) = row({excluded})
           where (present.directory_epoch, present.version) < (excluded.directory_epoch, excluded.version)
             or (present.pod = excluded.pod and present.epoch <> excluded.epoch)
           returning {returned}"""
    ).format(
        table=_name(root.table),
        columns=_identifiers(root.columns),
        staging=_staging(root),
        key=_identifiers(root.key_columns),
        changed=_identifiers(changed),
        excluded=sql.SQL(", ").join(sql.Identifier("excluded", name) for name in changed),
        returned=sql.SQL(", ").join(sql.Identifier("present", name) for name in root.key_columns),
    )


def _replace_children(
    cursor: Cursor, root: Root, child: Child, written: Sequence[tuple[str, str]], children: Sequence[ChildRow]
) -> None:
    won = set(written)
    if not won:
        return
    cursor.execute(_delete(root, child.table), _columns_of(written))
    columns = child.row_type.__struct_fields__
    rows = [row for row in children if msgspec.structs.astuple(row)[:2] in won]
    _copy(cursor, _name(child.table), columns, rows)


def _delete(root: Root, table: str) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {table} as present using unnest(%s::text[], %s::text[]) as gone (merchant, identifier)
           where present.{merchant_id} = gone.merchant and present.{id} = gone.identifier"""
    ).format(table=_name(table), merchant_id=merchant, id=identifier)


def _delete_of_pod(root: Root) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {table} as present using unnest(%(merchants)s::text[], %(ids)s::text[])
           as gone (merchant, identifier)
           where present.{merchant_id} = gone.merchant and present.{id} = gone.identifier and present.pod = %(pod)s
           returning present.{merchant_id}, present.{id}"""
    ).format(table=_name(root.table), merchant_id=merchant, id=identifier)


def _delete_older(root: Root) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {table} as present
           using unnest(%(merchants)s::text[], %(ids)s::text[], %(pods)s::text[], %(epochs)s::text[],
                        %(directory_epochs)s::bigint[], %(versions)s::bigint[])
               as gone (merchant, identifier, pod, epoch, directory_epoch, version)
           where present.{merchant_id} = gone.merchant and present.{id} = gone.identifier
             and ((present.directory_epoch, present.version) <= (gone.directory_epoch, gone.version)
                  or (present.pod = gone.pod and present.epoch <> gone.epoch))"""
    ).format(table=_name(root.table), merchant_id=merchant, id=identifier)


def _delete_orphans(root: Root, child: Child) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {child} as part using unnest(%(merchants)s::text[], %(ids)s::text[])
           as gone (merchant, identifier)
           where part.{merchant_id} = gone.merchant and part.{id} = gone.identifier
             and not exists (select from {table} as present
                             where present.{merchant_id} = part.{merchant_id} and present.{id} = part.{id})"""
    ).format(child=_name(child.table), table=_name(root.table), merchant_id=merchant, id=identifier)


_NOT_KEPT = """not exists (select from unnest(%(merchants)s::text[], %(ids)s::text[]) as kept (merchant, identifier)
    where kept.merchant = present.{merchant_id} and kept.identifier = present.{id})"""


def _delete_pod(root: Root) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL("delete from {table} as present where present.pod = %(pod)s and " + _NOT_KEPT).format(
        table=_name(root.table), merchant_id=merchant, id=identifier
    )


def _delete_pod_children(root: Root, child: Child) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {child} as part using {table} as present
           where part.{merchant_id} = present.{merchant_id} and part.{id} = present.{id}
             and present.pod = %(pod)s and """
        + _NOT_KEPT
    ).format(child=_name(child.table), table=_name(root.table), merchant_id=merchant, id=identifier)
