"""Random damages: any column of any table that holds facts, in any store, gets any other value that the store accepts.

A damage chooses, from a seed, a store, a table, a column and a row, and writes another value: one that another row has
in this column, or a neighbour of the present value. A value that the store refuses (a check, a key, a type) is not
legal; then the next one is tried. Triggers are switched off, as a hand with the owner's role could.

Belongs here: making such damages to tables. Does not belong here: whether they are found (`bench/looking.py`), search
documents, carts in Valkey, cached answers and webhook notes (`bench/random_serving.py`). Not damaged here: tables that
hold no facts (`NO_FACTS`: positions, cuts, keys of commands, what the provider was asked and has said), keys of rows,
generated columns, the warehouse's views, what the lake knows of itself besides its events, and the log, whose entries
are not rows; its damages are in the matrix (`drills/damages/log.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import duckdb
import psycopg
from psycopg import sql

from contracts.clock import utc_now
from contracts.settings import Settings
from derived.lake_connection import open_lake

OLTP, READ_MODELS, LAKE, MARTS = "oltp", "read_models", "lake", "warehouse"
STORES = (OLTP, READ_MODELS, LAKE, MARTS)
NO_FACTS = frozenset(
    {
        *("aggregate_children", "aggregate_roots", "allowed_transitions", "bypasses", "cuts", "epochs"),
        *("idempotency_keys", "migrations", "outbox_floor", "parked_events", "positions", "provider_calls"),
        *("provider_notifications", "residents", "skipped_events"),
    }
)
TRIES = 60
ROWS_MAX = 5_000
COLUMNS = """
select c.table_name, c.column_name, format('%%s', case when c.data_type = 'ARRAY' then substr(c.udt_name, 2) || '[]'
       else c.udt_name end) as type
from information_schema.columns as c
join information_schema.tables as t using (table_schema, table_name)
where c.table_schema = %(schema)s and t.table_type = 'BASE TABLE' and c.is_generated = 'NEVER'
  and not exists (
      select from information_schema.table_constraints as k
      join information_schema.key_column_usage as u using (constraint_schema, constraint_name)
      where k.constraint_type = 'PRIMARY KEY' and u.table_schema = c.table_schema and u.table_name = c.table_name
        and u.column_name = c.column_name
  )
order by 1, 2
"""
LAKE_COLUMNS = """
select c.schema_name || '.' || c.table_name as name, c.column_name, c.data_type
from duckdb_columns() as c
join duckdb_tables() as t using (database_name, schema_name, table_name)
where c.database_name = 'lake'
  and (name = 'raw.events' or c.schema_name in ('staging', 'intermediate', 'marts'))
order by 1, 2
"""
# A neighbour of the present value, as text, by type.
INTEGERS = frozenset({"int2", "int4", "int8", "numeric", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"})
TIMES = frozenset({"timestamptz", "timestamp", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP"})
DAYS = frozenset({"date", "DATE"})
BOOLEANS = frozenset({"bool", "BOOLEAN"})
TEXTS = frozenset({"text", "varchar", "VARCHAR"})


@dataclass(frozen=True, kw_only=True)
class Change:
    """One value that was changed."""

    store: str
    pod: str
    table: str
    column: str
    before: str | None
    after: str | None
    row: frozenset[str]
    """The values of the row, before and after, as text: breaks of this damage have keys among them."""
    at: datetime

    def __str__(self) -> str:
        """Say what was changed, on one line."""
        before, after = (str(value)[:40] for value in (self.before, self.after))
        return f"{self.table}.{self.column} in {self.store} of {self.pod}: {before} -> {after}"


NO_OTHERS: Mapping[str, Callable[[random.Random], Change | None]] = MappingProxyType({})


def change_anything(
    settings: Settings,
    dice: random.Random,
    stores: Sequence[str] = STORES,
    ways: Mapping[str, Callable[[random.Random], Change | None]] = NO_OTHERS,
) -> Change:
    """Make one damage; raises LookupError when no value could be changed.

    `ways`: store -> how one is made there, for the stores that are not tables.
    """
    for _ in range(TRIES):
        store = dice.choice(stores)
        if store in ways:
            found = ways[store](dice)
        elif store in (LAKE, MARTS):
            found = _in_lake(settings, store, dice)
        else:
            found = _in_postgres(settings, store, dice)
        if found is not None:
            return found
    raise LookupError("No value could be changed: the stores are empty.")


def _in_postgres(settings: Settings, store: str, dice: random.Random) -> Change | None:
    pod = dice.choice(settings.pods)
    dsn = pod.owner_dsn if store == OLTP else settings.read_models_dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        known = [one for one in connection.execute(COLUMNS, {"schema": store}) if one[0] not in NO_FACTS]
        # Every table as often as another, however many columns it has.
        table = dice.choice(sorted({one[0] for one in known}))
        column, kind = dice.choice([(one[1], one[2]) for one in known if one[0] == table])
        names = {"table": sql.Identifier(store, table), "column": sql.Identifier(column), "type": sql.SQL(kind)}
        rows = _some_rows(connection, names, dice)
        if not rows:
            return None
        place, before, row = dice.choice(rows)

        def write(value: str | None) -> bool:
            return _write_postgres(connection, names, place, before, value)

        after, is_done = first_legal(dice, kind, before, [one[1] for one in rows], write)
        if not is_done:
            return None
        # A table of a read model may not say the pod; then the keys of its row tell which breaks are its.
        of_pod = pod.pod if store == OLTP else row.get("pod") or ""
        return made(store, of_pod, f"{table}.{column}", before, after, row)


def _some_rows(
    connection: psycopg.Connection[Any], names: Mapping[str, sql.Composable], dice: random.Random
) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return rows that lie together, of a place that the dice choose: a large table is not read whole."""
    size = sql.SQL("select pg_relation_size({table}::text::regclass) / 8192").format(
        table=sql.Literal(names["table"].as_string(connection))
    )
    ((pages,),) = connection.execute(size).fetchall()
    query = sql.SQL(
        "select ctid::text, {column}::text, to_jsonb(t) from {table} as t where ctid >= %s::tid order by ctid limit %s"
    ).format(**names)
    # A chosen page may be empty, and none comes after it.
    for page in (dice.randrange(max(1, pages)), 0):
        if rows := connection.execute(query, (f"({page},1)", ROWS_MAX)).fetchall():
            return rows
    return []


def _write_postgres(
    connection: psycopg.Connection[Any], names: Mapping[str, sql.Composable], place: str, before: str | None, value: Any
) -> bool:
    change = sql.SQL(
        "update {table} set {column} = %s::text::{type} where ctid = %s::tid and {column}::text is not distinct from %s"
        " and %s::text::{type}::text is distinct from %s"
    ).format(**names)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("alter table {table} disable trigger user").format(**names))
            changed = connection.execute(change, (value, place, before, value, before)).rowcount
            connection.execute(sql.SQL("alter table {table} enable trigger user").format(**names))
    except psycopg.Error:  # a check, a key or the type refuses it, or traffic holds the row
        return False
    return changed == 1


def _in_lake(settings: Settings, store: str, dice: random.Random) -> Change | None:
    with open_lake(settings) as lake:
        known = [
            one
            for one in lake.execute(LAKE_COLUMNS).fetchall()
            if one[0].startswith("raw.") is (store == LAKE) and one[1] not in ("pod", "build_id")
        ]
        if not known:
            return None
        table = dice.choice(sorted({one[0] for one in known}))
        column, kind = dice.choice([(one[1], one[2]) for one in known if one[0] == table])
        path = f"lake.{table}"
        (count,) = lake.execute(f"select count(*) from {path}").fetchone() or (0,)
        first = dice.randrange(max(1, count - ROWS_MAX))
        rows = lake.execute(
            f'select rowid, "{column}"::varchar from {path} order by rowid limit {ROWS_MAX} offset {first}'
        ).fetchall()
        if not rows:
            return None
        place, before = dice.choice(rows)
        described = lake.execute(f"select * from {path} where rowid = ?", [place])
        names = [one[0] for one in described.description or ()]
        row = dict(zip(names, described.fetchone() or (), strict=False))

        def write(value: str | None) -> bool:
            statement = f'update {path} set "{column}" = cast(? as {kind}) where rowid = ?'
            try:
                lake.execute(statement, [value, place])
            except duckdb.Error:  # the type refuses it, or a consumer has committed meanwhile
                return False
            return True

        after, is_done = first_legal(dice, kind, before, [one[1] for one in rows], write)
    if not is_done:
        return None
    return made(store, row.get("pod") or "", f"{table}.{column}", before, after, row)


def made(store: str, pod: str, place: str, before: str | None, after: str | None, row: Mapping[str, Any]) -> Change:
    """Return the change that was made now; `place` is the table and its column."""
    table, _, column = place.rpartition(".")
    return Change(
        store=store,
        pod=pod,
        table=table,
        column=column,
        before=before,
        after=after,
        row=_texts(row, after),
        at=utc_now(),
    )


def first_legal(
    dice: random.Random,
    kind: str,
    before: str | None,
    others: Sequence[str | None],
    write: Callable[[str | None], bool],
) -> tuple[str | None, bool]:
    """Write the first other value that the store accepts; return it, and whether there was one."""
    known = sorted({one for one in others if one is not None and one != before})
    values = [*dice.sample(known, min(3, len(known))), *neighbours(dice, kind, before)]
    dice.shuffle(values)
    for value in values:
        if value != before and write(value):
            return value, True
    return None, False


def neighbours(dice: random.Random, kind: str, before: str | None) -> list[str]:
    """Return values next to a value of a type, as text; none for types whose values cannot be made up."""
    if before is None:
        return ["1"] if kind in INTEGERS else ["x"] if kind in TEXTS else []
    if kind in INTEGERS:
        return [str(int(before) + dice.choice([-1, 1]) * dice.randint(1, 500))] if before.lstrip("-").isdigit() else []
    if kind in BOOLEANS:
        return ["false" if before in ("true", "t") else "true"]
    if kind in TEXTS:
        return [before + "x"]
    if kind in TIMES | DAYS and len(before) >= len("2026-01-01"):
        year = str(int(before[:4]) - 1)
        return [year + before[4:]]
    return []


def _texts(row: Mapping[str, Any], after: str | None) -> frozenset[str]:
    values = {str(value) for value in row.values() if value is not None}
    return frozenset(values | ({after} if after is not None else set()))
