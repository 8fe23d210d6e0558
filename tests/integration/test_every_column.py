"""Every column of the read models' tables and of the lake's events: a value that was changed there is found.

The columns are read from the stores, so a new one is either compared or named in `reconcile/uncovered.py`. The stored
tables of the warehouse have a test of their own (`tests/integration/test_reconcile_warehouse.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import psycopg
import pytest

from contracts.settings import Settings
from contracts.verdicts import Difference, Verdict
from derived.builds import migrate_builds
from derived.lake import connect_lake
from reconcile.compare import Limits
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from reconcile.copies import VIEWS
from reconcile.uncovered import UNCOVERED, is_uncovered
from stack.composition.comparison import build_reconcile_context
from stack.composition.projections import PROJECTIONS
from tests.integration.reconcile_world import VIEW_PAIRS, carrying

COLUMNS = """
    select table_name, column_name, data_type from information_schema.columns
    join information_schema.tables using (table_schema, table_name)
    where table_schema = 'read_models' and table_type = 'BASE TABLE' and is_generated = 'NEVER' order by 1, 2
"""
LAKE_COLUMNS = """
    select schema_name || '.' || table_name, column_name, data_type from duckdb_columns()
    where database_name = 'lake' and schema_name in ('raw', 'builds') order by all
"""
OTHER = {
    "text": "coalesce({0} || 'x', 'x')",
    "bigint": "coalesce({0} + 1, 1)",
    "integer": "coalesce({0} + 1, 1)",
    "numeric": "coalesce({0} + 1, 1)",
    "timestamp with time zone": "coalesce({0} + interval '1 day', timestamptz '2010-12-01')",
}
"""Type in lower case -> another value than the present one, whatever that is."""
OTHER["varchar"] = OTHER["text"]
IN_OTHER_WORDS = {"pod": "'pod2'", "grants": "'[]'"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, its columns with their types, and what names a row of it."""

    name: str
    columns: Mapping[str, str]
    key: Sequence[str]
    row: str
    """The store's own number of a row."""

    def change(self, chosen: Mapping[str, str]) -> str:
        """Return the statement that changes each of these columns in its row."""
        changes = ", ".join(
            f'"{column}" = case when {self.row} = \'{row}\' then {self._other(column)} else "{column}" end'
            for column, row in chosen.items()
        )
        rows = ", ".join(f"'{row}'" for row in chosen.values())
        return f"update {self.name} set {changes} where {self.row} in ({rows})"

    def _other(self, column: str) -> str:
        return IN_OTHER_WORDS.get(column) or OTHER[self.columns[column].lower()].format(f'"{column}"')


@pytest.fixture
def context(system: Settings) -> ReconcileContext:
    real = build_reconcile_context(system, lag_seconds_max=10)
    return replace(carrying(real, system, PROJECTIONS), limits=Limits(sample=10_000))


def differences(context: ReconcileContext, pairs: Iterable[str]) -> list[Difference]:
    """Return what differs in any pod; every pair could be compared."""
    results = run_pairs(context, list(pairs))
    assert [one.reason for one in results if one.verdict not in (Verdict.CONSISTENT, Verdict.INCONSISTENT)] == []
    return [one for result in results for one in result.sample]


def tables_of(rows: Iterable[tuple[str, str, str]], keys: Mapping[str, Sequence[str]], row: str) -> list[Table]:
    found: dict[str, dict[str, str]] = {}
    for name, column, kind in rows:
        found.setdefault(name, {})[column] = kind
    return [Table(name=name, columns=columns, key=keys.get(name, ()), row=row) for name, columns in found.items()]


@pytest.mark.timeout(400)
def test_any_value_of_a_read_model_that_was_changed_is_found(system: Settings, context: ReconcileContext) -> None:
    assert differences(context, VIEW_PAIRS) == []
    shapes = {f"read_models.{shape.name}": shape for view in VIEWS for shape in view.shapes}
    keys = {name: shape.key for name, shape in shapes.items()}
    with psycopg.connect(system.read_models_dsn, autocommit=True) as connection:
        rows = [(f"read_models.{name}", *rest) for name, *rest in connection.execute(COLUMNS).fetchall()]
        tables = [table for table in tables_of(rows, keys, "ctid") if not is_uncovered(table.name)]
        assert {table.name for table in tables} <= set(shapes)
        for table in tables:
            connection.execute(f"create table kept_{table.name.partition('.')[2]} as table {table.name}".encode())
        rounds = [
            {table.name: [one for one in table.columns if one not in ("pod", *table.key)] for table in tables},
            {table.name: [one for one in table.columns if one in ("pod", *table.key)] for table in tables},
        ]
        for columns in rounds:
            damaged = {table.name: _damage(connection, table, columns[table.name]) for table in tables}
            found = differences(context, VIEW_PAIRS)
            for table in tables:
                _assert_found(table, damaged[table.name], found)
                _put_back(connection, table)
        assert differences(context, VIEW_PAIRS) == []


def _damage(connection: psycopg.Connection, table: Table, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Change each column in some row, with triggers off; return column -> the row's key."""
    keys = ", ".join(f"{name}::text" for name in table.key)
    conditions = ["pod = 'pod1'"] * ("pod" in table.columns) + ["grants <> '[]'"] * ("grants" in table.columns)
    where = " and ".join(conditions) or "true"
    read = f"select ctid::text, {keys} from {table.name} where {where} order by 1"
    rows = [(row[0], row[1:]) for row in connection.execute(read.encode()).fetchall()]
    chosen = {column: rows[place % len(rows)] for place, column in enumerate(columns)}
    connection.execute(f"alter table {table.name} disable trigger user".encode())
    if chosen:
        connection.execute(table.change({column: row for column, (row, _) in chosen.items()}).encode())
    return {column: key for column, (_, key) in chosen.items()}


def _assert_found(table: Table, damaged: Mapping[str, tuple[str, ...]], found: Sequence[Difference]) -> None:
    entity = table.name.partition(".")[2]
    named = {(one.key, column.column) for one in found if one.entity == entity for column in one.columns}
    missing = {one.key for one in found if one.entity == entity and one.kind.value == "missing"}
    for column, key in damaged.items():
        if column == "grants":
            assert key in {one.key[:1] for one in found if one.entity == f"{entity[:-1]}_grants"}
        else:
            assert (key, column) in named or key in missing, (table.name, column, key)


def _put_back(connection: psycopg.Connection, table: Table) -> None:
    names = ", ".join(table.columns)
    kept = f"kept_{table.name.partition('.')[2]}"
    connection.execute(f"delete from {table.name}".encode())
    connection.execute(f"insert into {table.name} ({names}) select {names} from {kept}".encode())


@pytest.mark.timeout(400)
def test_any_value_of_an_event_in_the_lake_that_was_changed_is_found(
    system: Settings, context: ReconcileContext
) -> None:
    assert differences(context, ["log_manifests"]) == []
    with connect_lake(system.catalog_dsn, system.lake_data_path) as lake:
        tables = tables_of(lake.execute(LAKE_COLUMNS).fetchall(), {}, "rowid")
        (events,) = [table for table in tables if not is_uncovered(table.name)]
        assert events.name == "raw.events"
        events = replace(events, name="lake.raw.events")
        rows = lake.execute("select rowid, event_id from lake.raw.events where pod = 'pod1' order by 1").fetchall()
        chosen = dict(zip(events.columns, rows, strict=False))
        assert len(chosen) == len(events.columns)
        lake.execute(events.change({column: row for column, (row, _) in chosen.items()}))
    found = differences(context, ["log_manifests"])
    named = {(one.key, column.column) for one in found for column in one.columns}
    missing = {one.key for one in found if one.kind.value == "missing"}
    assert any(one.entity == "manifest_counts" for one in found)
    for column, (_, event_id) in chosen.items():
        if column not in ("chunk", "payload"):
            assert ((event_id,), column) in named or (event_id,) in missing, column
    assert ((chosen["payload"][1],), "payload_md5") in named


def test_what_is_not_compared_is_there(system: Settings) -> None:
    """A table that is gone needs no reason any more."""
    with connect_lake(system.catalog_dsn, system.lake_data_path) as lake:
        migrate_builds(lake)
        names = {row[0] for row in lake.execute(LAKE_COLUMNS).fetchall()}
    with psycopg.connect(system.read_models_dsn) as connection:
        names |= {f"read_models.{row[0]}" for row in connection.execute(COLUMNS).fetchall()}
    assert [pattern for pattern in UNCOVERED if not any(fnmatchcase(name, pattern) for name in names)] == []
