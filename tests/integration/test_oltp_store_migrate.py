"""The pod's schema: an empty database migrated is what the tables declare, and migrating again changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.pool import NullPool

from contracts.errors import StackError
from oltp.domain import transitions
from oltp.store.constraints import MEANINGS
from oltp.store.migrate import migrate
from oltp.store.tables import SCHEMA, metadata
from oltp.store.tables.gathered import SHORT
from oltp.store.tables.propagation import XID8, PgSnapshot
from tests.conftest import Cluster, MakeDatabase

COLUMNS = """
select table_name, column_name, data_type, is_nullable, column_default, is_identity, identity_generation
from information_schema.columns
where table_schema = 'oltp' and table_name not in ('schema_revision', 'stock_identity_violations', 'stock_levels')
"""
GATHERED = ", ".join(f"'{name}'" for name in SHORT)
"""Their checks are one function a table: `test_gathered_checks.py` compares those."""
CONSTRAINTS = f"""
select rel.relname, con.conname, pg_get_constraintdef(con.oid)
from pg_constraint as con
inner join pg_class as rel on con.conrelid = rel.oid
where con.connamespace = 'oltp'::regnamespace and con.contype <> 't' and rel.relname <> 'schema_revision'
    and not (con.contype = 'c' and rel.relname in ({GATHERED}))
"""
INDEXES = """
select tablename, indexname, indexdef from pg_indexes
where schemaname = 'oltp' and tablename <> 'schema_revision'
"""


@pytest.fixture
def engine_connection(migrated: str) -> Iterator[Connection]:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(migrated), poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


def test_alembic_finds_no_difference(engine_connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ischema_names, "xid8", XID8)
    monkeypatch.setitem(ischema_names, "pg_snapshot", PgSnapshot)
    context = MigrationContext.configure(
        engine_connection,
        opts={
            "compare_type": True,
            "include_schemas": True,
            "version_table": "schema_revision",
            "version_table_schema": SCHEMA,
        },
    )
    assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("query", [COLUMNS, CONSTRAINTS, INDEXES], ids=["columns", "constraints", "indexes"])
def test_the_catalog_is_that_of_the_declared_tables(migrated: str, make_database: MakeDatabase, query: str) -> None:
    """Alembic compares neither checks nor defaults; PostgreSQL's own description of both databases does."""
    declared = make_database()
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(declared), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"create schema {SCHEMA}"))
        metadata.create_all(connection)
    found = [_rows(dsn, query) for dsn in (migrated, declared)]
    assert found[0] == found[1]
    assert len(found[0]) > 40


def test_migrating_twice_changes_nothing(migrated: str) -> None:
    before = [_rows(migrated, query) for query in (COLUMNS, CONSTRAINTS, INDEXES)]
    migrate(migrated)
    assert [_rows(migrated, query) for query in (COLUMNS, CONSTRAINTS, INDEXES)] == before
    assert _rows(migrated, "select count(*) from oltp.schema_revision") == [(1,)]


def test_a_missing_role_or_server_is_said_in_a_sentence(migrated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oltp.store.migrate.ROLES", ("tieout_nobody",))
    with pytest.raises(StackError, match="Roles tieout_nobody do not exist"):
        migrate(migrated)
    with pytest.raises(StackError, match="cannot be reached"):
        migrate("postgresql://tieout_owner@127.0.0.1:1/nowhere")


def test_allowed_transitions_are_those_of_the_domain(migrated: str) -> None:
    tables: dict[str, Mapping[Any, frozenset[Any]]] = {
        "order": transitions.ORDER_TRANSITIONS,
        "payment": transitions.PAYMENT_TRANSITIONS,
        "refund": transitions.REFUND_TRANSITIONS,
        "reservation": transitions.RESERVATION_TRANSITIONS,
        "gift_card": transitions.GIFT_CARD_TRANSITIONS,
    }
    declared = {
        (aggregate_type, str(before), str(after))
        for aggregate_type, table in tables.items()
        for before, following in table.items()
        for after in following
    }
    created = {
        ("order", "", "placed"),
        ("payment", "", "authorized"),
        ("payment", "", "declined"),
        ("payment", "", "pending"),
        ("refund", "", "requested"),
        ("reservation", "", "held"),
        ("gift_card", "", "active"),
    }
    assert set(_rows(migrated, "select * from oltp.allowed_transitions")) == declared | created


def test_new_rows_in_other_statuses_than_those_of_a_beginning_are_looked_at(migrated: str) -> None:
    """The triggers' conditions leave out exactly the statuses that `allowed_transitions` lets a root begin in."""
    beginnings: dict[str, set[str]] = {}
    for table, status in _rows(
        migrated,
        "select table_name, to_status from oltp.allowed_transitions inner join oltp.aggregate_roots "
        "using (aggregate_type) where from_status = ''",
    ):
        beginnings.setdefault(f"oltp.{table}", set()).add(str(status))
    left_out = {
        str(table): set(re.findall(r"'{(.*)}'::text", str(condition))[0].split(","))
        for table, condition in _rows(
            migrated,
            "select tgrelid::regclass::text, pg_get_triggerdef(oid) from pg_trigger "
            "where tgname like '%\\_status\\_begins'",
        )
    }
    assert left_out == beginnings and len(beginnings) == 5
    updates = "select tgrelid::regclass::text, tgtype from pg_trigger where tgname like '%\\_status'"
    # 19: before each row of an update.
    assert {(str(table), kind) for table, kind in _rows(migrated, updates)} == {(table, 19) for table in beginnings}


def test_every_constraint_with_a_meaning_exists(migrated: str) -> None:
    """A renamed constraint would turn a typed error into a fault of the program."""
    names = {name for _, name, _ in [*_rows(migrated, CONSTRAINTS), *_rows(migrated, INDEXES)]}
    bodies = _rows(migrated, "select prosrc from pg_proc where pronamespace = 'oltp'::regnamespace")
    functions = "".join(str(body) for (body,) in bodies)
    assert [name for name in MEANINGS if name not in names and f"'{name}'" not in functions] == []


def test_relay_and_reader_can_tell_the_epoch(migrated: str, postgres: Cluster) -> None:
    """Cuts name the system identifier and the timeline; both roles that register cuts must be able to read them."""
    database = psycopg.conninfo.conninfo_to_dict(migrated)["dbname"]
    for role in ("tieout_relay", "tieout_reader"):
        rows = _rows(
            postgres.dsn(role, str(database)),
            "select system_identifier, pg_walfile_name(pg_current_wal_insert_lsn()) from pg_control_system()",
        )
        assert len(rows) == 1


def _rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return sorted(connection.execute(query.encode()).fetchall(), key=repr)


def test_rows_from_before_the_limits_stay_and_can_change(
    migrated: str, make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they exceed is not constrained there; everything else is."""
    dsn = make_database()
    with monkeypatch.context() as until:
        until.setattr(command, "upgrade", lambda config, _head, upgrade=command.upgrade: upgrade(config, "0008"))
        migrate(dsn)
    key = "x" * 2_000
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "insert into oltp.idempotency_keys (merchant_id, idempotency_key, command, body_hash) "
            "values ('m', %s, '', '')",
            (key,),
        )
    migrate(dsn)
    names = "select conname from pg_constraint where conname like '%\\_limit' or conname like '%\\_hold'"
    # Its only check constraint.
    assert set(_rows(migrated, names)) - set(_rows(dsn, names)) == {("idempotency_keys_hold",)}
    with psycopg.connect(dsn) as connection:
        connection.execute("update oltp.idempotency_keys set response = '1' where idempotency_key = %s", (key,))


def test_rows_from_before_line_discounts_and_several_taxes_stay(
    make_database: MakeDatabase, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = make_database()
    with monkeypatch.context() as until:
        until.setattr(command, "upgrade", lambda config, _head, upgrade=command.upgrade: upgrade(config, "0010"))
        migrate(dsn)
    database = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(FROM_BEFORE)
    migrate(dsn)
    assert _rows(dsn, "select tax_category, rate_ppm, owed_to from oltp.merchant_tax_rates") == [
        ("standard", 200_000, "")
    ]
    assert _rows(dsn, "select code, amount_minor, line_number from oltp.order_discounts") == [("TEN", 100, None)]
    assert _rows(dsn, "select tax_minor from oltp.order_tax_lines") == [(180,)]
    with psycopg.connect(dsn) as connection:
        # What every later change of such an order is checked by.
        connection.execute(
            "select oltp.check_order_lines(order_id), oltp.check_order_refunds(order_id) from oltp.orders"
        )


FROM_BEFORE = """
insert into oltp.merchants values ('m', 1, 'M', 'GBP', true, false, 'GB', 0, null, now());
insert into oltp.merchant_tax_rates values ('m', 'GB', 'standard', 200000);
insert into oltp.orders (order_id, merchant_id, version, order_number, currency, status, source, lines_minor,
    shipping_minor, discount_minor, added_tax_minor, tax_minor, rounding_micro, total_minor, cancelled_minor,
    cancelled_tax_minor, placed_at)
select gen_random_uuid(), 'm', 1, '1', 'GBP', 'placed', 's', 1000, 0, 100, 180, 180, 0, 1080, 0, 0, now();
insert into oltp.order_lines (order_line_id, order_id, merchant_id, line_number, kind, variant_id, sku, title, quantity,
    unit_price_micro, price_source, amount_minor, rounding_micro, discount_minor, total_minor, cancelled_quantity,
    cancelled_minor, cancelled_tax_minor, fulfilled_quantity, withdrawn_quantity)
select gen_random_uuid(), order_id, 'm', 1, 'goods', gen_random_uuid(), 'A', 'A', 1, 10000000, 'catalog', 1000, 0, 100,
    1080, 0, 0, 0, 0, 0 from oltp.orders;
insert into oltp.order_tax_lines select order_line_id, order_id, 'm', 'GB', 'standard', 200000, false, 900, 180
from oltp.order_lines;
insert into oltp.order_discounts select gen_random_uuid(), order_id, 'm', 'TEN', 100 from oltp.orders;
"""
