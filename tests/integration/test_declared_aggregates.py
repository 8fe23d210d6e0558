"""Tables of aggregates are declared in the pod, and their guards, rights and place in the outbox follow from that."""

from __future__ import annotations

import psycopg
import pytest
from alembic import command
from psycopg import errors

from oltp.store.mapping import MAPPINGS
from oltp.store.migrate import migrate
from tests.conftest import Cluster, MakeDatabase

TRIGGERS = """
select pg_get_triggerdef(oid) from pg_trigger
where not tgisinternal and tgrelid in (select oid from pg_class where relnamespace = 'oltp'::regnamespace)
"""
FUNCTIONS = """
select oid::regprocedure::text, regexp_replace(pg_get_functiondef(oid), '\\s+', ' ', 'g'), proacl::text
from pg_proc where pronamespace = 'oltp'::regnamespace
"""
RIGHTS = """
select table_name, grantee, privilege_type from information_schema.role_table_grants
where table_schema = 'oltp' and grantee <> 'tieout_owner'
"""
DECLARING = (
    "attach_have_events",
    "guard_root",
    "guard_child",
    "follow_roots",
    "grant_rights",
    "declare_root",
    "declare_child",
)
VOUCHERS = """
create table oltp.vouchers (
    voucher_id uuid primary key, merchant_id text not null, version bigint not null, status text not null
);
create table oltp.voucher_parts (
    voucher_part_id uuid primary key, voucher_id uuid not null, merchant_id text not null
);
insert into oltp.allowed_transitions values ('voucher', '', 'open'), ('voucher', 'open', 'closed');
select oltp.declare_root('voucher', 'vouchers', 'voucher_id', true);
select oltp.declare_child('voucher', 'voucher_parts', 'voucher_id', false);
"""
ROOT = "insert into oltp.vouchers values ('00000000-0000-0000-0000-000000000001', 'm', 1, 'open')"
PART = "insert into oltp.voucher_parts values (gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'm')"
CLOSED = "update oltp.vouchers set version = version + 1, status = 'closed'"


def _event(version: int) -> str:
    return (
        "insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,"
        " schema_version, occurred_at, correlation_id, payload) values (gen_random_uuid(), 'm', 'voucher',"
        f" '00000000-0000-0000-0000-000000000001', {version}, 'voucher_opened', 1, now(), gen_random_uuid(), '{{}}')"
    )


def _rows(dsn: str, query: str) -> set[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return set(connection.execute(query.encode()).fetchall())


def _refusal(dsn: str, *statements: str) -> str | None:
    with psycopg.connect(dsn) as connection:
        try:
            for statement in statements:
                connection.execute(statement.encode())
            connection.commit()
        except errors.IntegrityError as error:
            return error.diag.constraint_name
        except errors.InsufficientPrivilege:
            return "privilege"
    return None


def test_what_was_there_is_guarded_as_before(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Triggers, the text of their functions, and rights: an upgrade in place adds the declaring and changes nothing."""
    dsn = make_database()
    with monkeypatch.context() as until:
        until.setattr(command, "upgrade", lambda config, _head, upgrade=command.upgrade: upgrade(config, "0013"))
        migrate(dsn)
    before = [_rows(dsn, query) for query in (TRIGGERS, FUNCTIONS, RIGHTS)]
    with monkeypatch.context() as until:
        until.setattr(command, "upgrade", lambda config, _head, upgrade=command.upgrade: upgrade(config, "0014"))
        migrate(dsn)
    triggers, functions, rights = (_rows(dsn, query) for query in (TRIGGERS, FUNCTIONS, RIGHTS))
    assert triggers == before[0]
    added = {row for row in functions if str(row[0]).removeprefix("oltp.").startswith(DECLARING)}
    assert functions - added == before[1]
    assert len(added) == len(DECLARING)
    declared = ("aggregate_roots", "aggregate_children")
    assert rights - before[2] == {
        (table, role, "SELECT") for table in declared for role in ("tieout_app", "tieout_reader")
    }


def test_every_aggregate_is_declared_with_all_its_tables(make_database: MakeDatabase) -> None:
    dsn = make_database()
    migrate(dsn)
    roots = {(state.AGGREGATE_TYPE, mapping.table.name, state.ID_FIELD) for state, mapping in MAPPINGS.items()}
    children = {
        (part.table.name, state.AGGREGATE_TYPE, part.root_id)
        for state, mapping in MAPPINGS.items()
        for child in mapping.children
        for part in child.tables
    }
    assert _rows(dsn, "select aggregate_type, table_name, id_column from oltp.aggregate_roots") == roots
    assert _rows(dsn, "select table_name, aggregate_type, id_column from oltp.aggregate_children") == children


def test_a_new_aggregate_is_its_tables_and_two_lines(make_database: MakeDatabase, postgres: Cluster) -> None:
    dsn = make_database()
    migrate(dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute(VOUCHERS.encode())
    app = postgres.dsn("tieout_app", str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]))
    assert _refusal(dsn, ROOT) == "change_has_event"
    assert _refusal(dsn, _event(1)) == "event_follows_root"
    assert _refusal(app, ROOT, PART, _event(1)) is None
    assert _refusal(dsn, PART) == "change_has_event"
    assert _refusal(dsn, "delete from oltp.vouchers") == "change_has_event"
    assert _refusal(dsn, "update oltp.vouchers set version = 7", _event(7)) == "version_follows"
    assert _refusal(dsn, CLOSED.replace("closed", "lost"), _event(2)) == "status_is_reachable"
    assert _refusal(app, CLOSED, _event(2)) is None
    rights = {(table, role, right) for table, role, right in _rows(dsn, RIGHTS) if str(table).startswith("voucher")}
    assert rights == {
        *(("vouchers", "tieout_app", right) for right in ("SELECT", "INSERT", "UPDATE")),
        *(("voucher_parts", "tieout_app", right) for right in ("SELECT", "INSERT")),
        *((table, "tieout_reader", "SELECT") for table in ("vouchers", "voucher_parts")),
    }


def test_only_the_owner_declares(make_database: MakeDatabase, postgres: Cluster) -> None:
    dsn = make_database()
    migrate(dsn)
    database = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    statements = (
        "select oltp.declare_root('voucher', 'cuts', 'cut', true)",
        "select oltp.declare_child('order', 'cuts', 'cut', true)",
        "select oltp.grant_rights('outbox', true)",
        "select oltp.follow_roots()",
        "insert into oltp.aggregate_roots (aggregate_type, table_name, id_column) values ('a', 'b', 'c')",
        "insert into oltp.aggregate_children values ('a', 'order', 'c')",
    )
    for role in ("tieout_app", "tieout_relay", "tieout_reader"):
        outcomes = {statement: _refusal(postgres.dsn(role, database), statement) for statement in statements}
        assert outcomes == dict.fromkeys(statements, "privilege")
