"""Tables of a read model: the SQL that writes, deletes and compares rows of any table.

Belongs here: statements about rows. Does not belong here: which tables there are (modules named after their read
model), positions (`positions.py`), sums (`sums.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from derived.keyed.rows import Absent, Child, ChildRow, Content, Root, RootRow
from derived.postgres_errors import is_of_content

Cursor = psycopg.Cursor[tuple[Any, ...]]

SCHEMA = "read_models"
ALL = sql.SQL("")
"""The condition of a statement on every staged row."""


def prepare(cursor: Cursor, roots: Iterable[Root]) -> None:
    """Create the session's staging tables, once per connection."""
    for root in roots:
        cursor.execute(
            sql.SQL("create temp table {} (like {}) on commit delete rows").format(staging(root), name_of(root.table))
        )


def write(cursor: Cursor, root: Root, content: Content) -> None:
    """Upsert rows: `content` replaces a row of a lower version, or of another epoch of the same pod; other rows stay.

    Versions continue when an aggregate moves to another pod. Of one version in two pods, that of the higher directory
    epoch stays. So the earlier pod's consumer never overwrites a row, in whichever order events arrive.
    """
    stage(cursor, root, content)
    if not content.rows:
        return
    cursor.execute(upsert(root))
    if root.child is not None:
        _replace_children(cursor, root, root.child, cursor.fetchall(), content.children)


def stage(cursor: Cursor, root: Root, content: Content) -> None:
    """Add root rows to the staging table; delete the rows of aggregates that are not in the view any more."""
    if content.absent:
        _delete_absent(cursor, root, content.absent)
    if content.rows:
        copy_rows(cursor, staging(root), root.row_type, content.rows)


def insert(cursor: Cursor, root: Root, content: Content) -> bool:
    """Insert rows; return False and write nothing if a key has a row already, or if a row cannot be stored.

    If a key has a row, `write` decides by version. Uses COPY into the tables themselves, which costs a third of
    `write`.
    """
    try:
        with cursor.connection.transaction():
            if content.absent:
                _delete_absent(cursor, root, content.absent)
            if content.rows:
                copy_rows(cursor, name_of(root.table), root.row_type, content.rows)
            if content.rows and root.child is not None:
                keys = [root.key_of(row) for row in content.rows]
                cursor.execute(_delete(root, root.child.table), _columns_of(keys))
                copy_rows(cursor, name_of(root.child.table), root.child.row_type, content.children)
    except (psycopg.Error, UnicodeError) as error:
        if is_of_content(error):
            return False
        raise
    return True


def digests(cursor: Cursor, root: Root, keys: Sequence[tuple[str, str]]) -> set[tuple[str, ...]]:
    """Return (table, merchant_id, id, digest of the rows) for the aggregates with these (merchant_id, id)."""
    found: set[tuple[str, ...]] = set()
    for name in root.tables:
        merchant, identifier = map(sql.Identifier, root.key_columns)
        query = sql.SQL(
            """select present.{merchant_id}, present.{id}, md5(string_agg(present::text, '|' order by present::text))
               from {table} as present join unnest(%s::text[], %s::text[]) as asked (merchant, identifier)
                 on present.{merchant_id} = asked.merchant and present.{id} = asked.identifier group by 1, 2"""
        ).format(table=name_of(name), merchant_id=merchant, id=identifier)
        found |= {(name, *row) for row in cursor.execute(query, _columns_of(keys)).fetchall()}
    return found


def digest_of_pod(cursor: Cursor, root: Root, pod: str) -> tuple[Any, ...]:
    """Return number and digest of a pod's rows in the root table and its child, independent of their order."""
    merchant, identifier = map(sql.Identifier, root.key_columns)
    found: list[Any] = []
    for name in root.tables:
        join = (
            sql.SQL("")
            if name == root.table
            else sql.SQL("join {} as root using ({}, {})").format(name_of(root.table), merchant, identifier)
        )
        owner = sql.SQL("present" if name == root.table else "root")
        query = sql.SQL(
            "select count(*), coalesce(sum(hashtextextended(present::text, 0)), 0) from {} as present {} "
            "where {}.pod = %s"
        ).format(name_of(name), join, owner)
        found += cursor.execute(query, [pod]).fetchall()
    return tuple(found)


def clear_staging(cursor: Cursor, root: Root) -> None:
    """Empty the staging table, for the next `write` in the same transaction."""
    cursor.execute(sql.SQL("truncate {}").format(staging(root)))


def delete_keys(cursor: Cursor, root: Root, keys: Sequence[tuple[str, str]], pod: str) -> int:
    """Delete a pod's rows of the aggregates with these (merchant_id, id); return the number of root rows.

    Rows of another pod are not deleted, because the aggregate has moved there.
    """
    merchants, ids = _columns_of(keys)
    cursor.execute(_delete_of_pod(root), {"merchants": merchants, "ids": ids, "pod": pod})
    gone = [(str(merchant), str(identifier)) for merchant, identifier in cursor.fetchall()]
    if root.child is not None:
        # Child rows without a root row belong to no pod: delete those of the keys that have no root row now.
        cursor.execute(_delete_orphans(root, root.child), {"merchants": merchants, "ids": ids})
    return len(gone)


def by_pod(cursor: Cursor, root: Root, keys: Sequence[tuple[str, str]]) -> dict[str, set[tuple[str, str]]]:
    """Return pod -> those of the aggregates with these (merchant_id, id) that have a row of that pod."""
    merchant, identifier = map(sql.Identifier, root.key_columns)
    query = sql.SQL(
        """select present.pod, present.{merchant_id}, present.{id} from {table} as present
           join unnest(%s::text[], %s::text[]) as asked (merchant, identifier)
             on present.{merchant_id} = asked.merchant and present.{id} = asked.identifier"""
    ).format(table=name_of(root.table), merchant_id=merchant, id=identifier)
    found: dict[str, set[tuple[str, str]]] = {}
    for pod, merchant_id, aggregate_id in cursor.execute(query, _columns_of(keys)).fetchall():
        found.setdefault(pod, set()).add((merchant_id, aggregate_id))
    return found


def _delete_absent(cursor: Cursor, root: Root, absent: Sequence[Absent]) -> None:
    """Delete the rows of aggregates that are not in the view any more, unless the rows are newer."""
    names = ("merchants", "ids", "pods", "epochs", "directory_epochs", "versions")
    values = dict(zip(names, (list(column) for column in zip(*absent, strict=True)), strict=True))
    cursor.execute(_delete_older(root), values)
    if root.child is not None:
        cursor.execute(_delete_orphans(root, root.child), values)


def delete_pod(cursor: Cursor, root: Root, pod: str, *, except_keys: Sequence[tuple[str, str]]) -> int:
    """Delete everything of a pod except `except_keys`; return the number of root rows."""
    merchants, ids = _columns_of(except_keys)
    values = {"pod": pod, "merchants": merchants, "ids": ids}
    if root.child is not None:
        cursor.execute(_delete_pod_children(root, root.child), values)
    cursor.execute(_delete_pod(root), values)
    return cursor.rowcount


def name_of(table: str) -> sql.Composable:
    """Return a table's name with its schema."""
    return sql.Identifier(SCHEMA, table)


def staging(root: Root) -> sql.Composable:
    """Return the name of a root's staging table."""
    return sql.Identifier("pg_temp", f"incoming_{root.table}")


def identifiers(names: Iterable[str]) -> sql.Composable:
    """Return a list of columns."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _columns_of(keys: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [key[0] for key in keys], [key[1] for key in keys]


def copy_rows(
    cursor: Cursor,
    table: sql.Composable,
    row_type: type[RootRow] | type[ChildRow],
    rows: Iterable[RootRow | ChildRow],
) -> None:
    """Add rows to a table with COPY."""
    columns = identifiers(row_type.__struct_fields__)
    with cursor.copy(sql.SQL("copy {} ({}) from stdin").format(table, columns)) as copy:
        for row in rows:
            copy.write_row(msgspec.structs.astuple(row))


def upsert(root: Root, condition: sql.Composable = ALL) -> sql.Composed:
    """Return the statement that writes the staged rows, those that meet `condition`, and returns the written keys."""
    changed = [name for name in root.columns if name not in root.key_columns]
    return sql.SQL(
        """insert into {table} as present ({columns}) select {columns} from {staging} {condition}
           on conflict ({key}) do update set ({changed}) = row({excluded})
           where (present.directory_epoch, present.version) < (excluded.directory_epoch, excluded.version)
             or (present.pod = excluded.pod and present.epoch <> excluded.epoch)
           returning {returned}"""
    ).format(
        table=name_of(root.table),
        columns=identifiers(root.columns),
        staging=staging(root),
        condition=condition,
        key=identifiers(root.key_columns),
        changed=identifiers(changed),
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
    rows = [row for row in children if msgspec.structs.astuple(row)[:2] in won]
    copy_rows(cursor, name_of(child.table), child.row_type, rows)


def _delete(root: Root, table: str) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {table} as present using unnest(%s::text[], %s::text[]) as gone (merchant, identifier)
           where present.{merchant_id} = gone.merchant and present.{id} = gone.identifier"""
    ).format(table=name_of(table), merchant_id=merchant, id=identifier)


def _delete_of_pod(root: Root) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {table} as present using unnest(%(merchants)s::text[], %(ids)s::text[])
           as gone (merchant, identifier)
           where present.{merchant_id} = gone.merchant and present.{id} = gone.identifier and present.pod = %(pod)s
           returning present.{merchant_id}, present.{id}"""
    ).format(table=name_of(root.table), merchant_id=merchant, id=identifier)


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
    ).format(table=name_of(root.table), merchant_id=merchant, id=identifier)


def _delete_orphans(root: Root, child: Child) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {child} as part using unnest(%(merchants)s::text[], %(ids)s::text[])
           as gone (merchant, identifier)
           where part.{merchant_id} = gone.merchant and part.{id} = gone.identifier
             and not exists (select from {table} as present
                             where present.{merchant_id} = part.{merchant_id} and present.{id} = part.{id})"""
    ).format(child=name_of(child.table), table=name_of(root.table), merchant_id=merchant, id=identifier)


_NOT_KEPT = """not exists (select from unnest(%(merchants)s::text[], %(ids)s::text[]) as kept (merchant, identifier)
    where kept.merchant = present.{merchant_id} and kept.identifier = present.{id})"""


def _delete_pod(root: Root) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL("delete from {table} as present where present.pod = %(pod)s and " + _NOT_KEPT).format(
        table=name_of(root.table), merchant_id=merchant, id=identifier
    )


def _delete_pod_children(root: Root, child: Child) -> sql.Composed:
    merchant, identifier = map(sql.Identifier, root.key_columns)
    return sql.SQL(
        """delete from {child} as part using {table} as present
           where part.{merchant_id} = present.{merchant_id} and part.{id} = present.{id}
             and present.pod = %(pod)s and """
        + _NOT_KEPT
    ).format(child=name_of(child.table), table=name_of(root.table), merchant_id=merchant, id=identifier)
