"""The check constraints that are one function a table: each of them refuses what it refused, by its name."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import BigInteger, Column, SmallInteger, Table, create_engine, text
from sqlalchemy import Text as SqlText
from sqlalchemy.pool import NullPool

from contracts.limits import AMOUNT_MICRO_MAX, AMOUNT_MINOR_MAX, STOCK_MAX
from oltp.store.tables import SCHEMA, metadata
from oltp.store.tables.gathered import SHORT
from tests.conftest import MakeDatabase

ID = "0eeeeeee-0000-7000-8000-000000000001"
ACCEPTED: dict[str, dict[str, Any]] = {
    "orders": {"status": "placed", "currency": "GBP"},
    "order_lines": {"kind": "goods", "quantity": 9},
    "reservation_lines": {"quantity": 9},
    "stock_slots": {"slots": 16, "slot": 3, "on_hand": 9},
}
"""What an acceptable row of a table has, beside texts of one character, zeros, and ones where 0 is refused."""
NUMBERS = (
    *(-1, 0, 1, 2, 16, 17, 10**6, 10**6 + 1, 10**7, 10**7 + 1, STOCK_MAX // 16 + 1, STOCK_MAX, STOCK_MAX + 1),
    *(10**14, 10**14 + 1, 10**15 + 1, AMOUNT_MINOR_MAX, AMOUNT_MINOR_MAX + 1, AMOUNT_MICRO_MAX, AMOUNT_MICRO_MAX + 1),
    *(-STOCK_MAX - 1, -AMOUNT_MINOR_MAX - 1, -AMOUNT_MICRO_MAX - 1),
)
TEXTS = (
    *(
        "",
        "placed",
        "cancelled",
        "goods",
        "shipping",
        "GBP",
        "JPY",
        "KWD",
        "CLF",
        "gbp",
        "a\tb",
        "a\u0001b",
        "a\u202eb",
    ),
    *("a\u00adb", "\U0001f600\u00e9", "a" * 101, "\u00e9" * 100, "\u00e9" * 255, "a" * 256, "a" * 501, "a" * 2_001),
)
CHANGED_TWICE = 3_000
"""Rows in which two or three columns have values of these."""

TOLD = """
create function pg_temp.told(checked oltp.{table}) returns text language plpgsql as $body$
declare
    name text;
begin
    perform oltp.{table}_hold(checked);
    return null;
exception
    when check_violation then
        get stacked diagnostics name = constraint_name;
        return name;
end
$body$
"""
COMPARE = """
select count(*), min(to_jsonb(given)::text), told, array_remove(array[{broken}], null)
from json_populate_recordset(null::oltp.{table}, %s::json) as given, pg_temp.told(given) as told
group by told, array_remove(array[{broken}], null)
"""


@pytest.fixture
def declared(make_database: MakeDatabase) -> str:
    """A database in which each constraint is by itself."""
    dsn = make_database()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(dsn), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"create schema {SCHEMA}"))
        metadata.create_all(connection)
    return dsn


def checks_of(connection: psycopg.Connection, table: str) -> dict[str, str]:
    """Return the conditions of a table's check constraints by their names, in the order of the names."""
    query = (
        "select conname, pg_get_expr(conbin, conrelid) from pg_constraint "
        "where conrelid = %s::regclass and contype = 'c' order by conname collate \"C\""
    )
    return dict(connection.execute(query, (f"{SCHEMA}.{table}",)).fetchall())


def rows_of(table: Table) -> Iterator[dict[str, Any]]:
    """Yield an acceptable row, then rows in which one column has each of the values, then some of several."""
    accepted = {column.name: _usual(column) for column in table.columns} | ACCEPTED.get(table.name, {})
    yield accepted
    values = {column.name: _values(column) for column in table.columns}
    for name, possible in values.items():
        yield from ({**accepted, name: value} for value in possible)
    source = random.Random(7)
    changeable = [name for name, possible in values.items() if possible]
    for _ in range(CHANGED_TWICE):
        names = source.sample(changeable, min(source.choice((2, 3)), len(changeable)))
        yield {**accepted, **{name: source.choice(values[name]) for name in names}}


def _usual(column: Column[Any]) -> Any:
    if isinstance(column.type, SqlText):
        return "a"
    if isinstance(column.type, BigInteger | SmallInteger):
        return int(column.name in ("version", "line_number", "quantity"))
    usual = {"UUID": ID, "BOOLEAN": True, "DATETIME": "2026-01-01T00:00:00Z", "JSON": {}}
    return usual[column.type.__visit_name__.upper()]


def _values(column: Column[Any]) -> tuple[Any, ...]:
    nothing = (None,) if column.nullable else ()
    if isinstance(column.type, SmallInteger):
        return (*nothing, *(number for number in NUMBERS if -10 < number < 100))
    if isinstance(column.type, BigInteger):
        # More on hand is no number of 64 bits when it is multiplied by the slots; also the constraint cannot say that.
        largest = 10**17 if column.name == "on_hand" else 2 * AMOUNT_MICRO_MAX
        return (*nothing, *(number for number in NUMBERS if abs(number) <= largest))
    return (*nothing, *TEXTS) if isinstance(column.type, SqlText) else nothing


@pytest.mark.parametrize("name", SHORT)
def test_a_row_is_refused_by_the_first_constraint_that_it_breaks(migrated: str, declared: str, name: str) -> None:
    table = metadata.tables[f"{SCHEMA}.{name}"]
    with psycopg.connect(declared) as connection:
        checks = checks_of(connection, name)
    broken = ", ".join(f"case when ({condition}) is false then '{check}' end" for check, condition in checks.items())
    rows = list(rows_of(table))
    with psycopg.connect(migrated) as connection:
        connection.execute(TOLD.format(table=name).encode())
        query = COMPARE.format(table=name, broken=broken.replace("%", "%%"))
        outcomes = connection.execute(query.encode(), (json.dumps(rows),)).fetchall()
    wrong = [(row, told, all_broken) for _, row, told, all_broken in outcomes if told != next(iter(all_broken), None)]
    assert wrong == []
    assert {check for *_, all_broken in outcomes for check in all_broken} == set(checks), "each refuses some row"
    assert sum(count for count, *_ in outcomes) == len(rows)
    assert any(told is None for _, _, told, _ in outcomes)


@pytest.mark.parametrize("name", SHORT)
def test_the_function_is_the_tables_one_check_constraint(migrated: str, name: str) -> None:
    with psycopg.connect(migrated) as connection:
        assert checks_of(connection, name) == {f"{name}_hold": f"{SCHEMA}.{name}_hold({name}.*)"}
        statement = f"insert into {SCHEMA}.{name} select (json_populate_record(null::{SCHEMA}.{name}, %s)).*"
        row = next(rows_of(metadata.tables[f"{SCHEMA}.{name}"]))
        text_column = {"orders": "source", "order_lines": "sku", "order_tax_lines": "tax_category"}.get(name)
        limited = text_column or ("idempotency_key" if name == "idempotency_keys" else "location_id")
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            connection.execute(statement.encode(), (json.dumps({**row, limited: "a\u202eb"}),))
    diagnosis = refused.value.diag
    assert (diagnosis.schema_name, diagnosis.table_name) == (SCHEMA, name)
    assert diagnosis.constraint_name == f"{name}_{limited}_limit"


def test_functions_are_those_of_the_declared_tables(migrated: str, declared: str) -> None:
    """Gathered from the declared tables with the declared short conditions, the functions are the same."""
    gather = (
        "select pg_get_functiondef(oid) from pg_proc where proname in ('refuse', 'gather_checks') order by proname desc"
    )
    functions = r"select proname, regexp_replace(prosrc, '\s+', ' ', 'g') from pg_proc where proname like '%\_hold'"
    with psycopg.connect(migrated) as connection:
        definitions = connection.execute(gather).fetchall()
        found: dict[str, str] = dict(connection.execute(functions).fetchall())
    with psycopg.connect(declared) as connection:
        for (definition,) in definitions:
            connection.execute(definition.encode())
        for name, conditions in SHORT.items():
            connection.execute(f"select {SCHEMA}.gather_checks(%s, %s)".encode(), (name, " and ".join(conditions)))
        expected: dict[str, str] = dict(connection.execute(functions).fetchall())
    assert found == expected
    assert found.keys() == {f"{name}_hold" for name in SHORT}
