"""What may be asked in SQL is one SELECT over names that are listed; and what psql is given."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cli.app import app
from cli.commands import queries
from contracts.errors import InputError
from contracts.settings import POD_ROLES, PodSettings, Settings
from derived.querying import EVENTS_NAME, VIEWS, checked_names
from derived.reports import MARTS
from stack.composition import session
from stack.settings import ROOT
from tests.values import settings_of

BOOKKEEPING = {"positions", "parked_events", "parked_keys", "skipped_events", "sum_parts"}
"""Tables that all read models share."""


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("select * from orders", {"orders"}),
        ("from Orders join lake.marts.journal using (order_id)", {"orders", "journal"}),
        ("with big as (select * from marts.orders) select count(*) from big", {"orders", "big"}),
        ("select (select max(cut) from events) as newest, * from account_orders", {"events", "account_orders"}),
        ("with recursive r as (select 1 as n union all select n + 1 from R where n < 3) from r", {"r"}),
        ("with a as (from orders), b as (from a) select * from (select * from b)", {"orders", "a", "b"}),
        ("select * from range(3), unnest([1, 2]) union all values (1, 2)", set()),
        ("describe orders", {"orders"}),
        ("show tables", set()),
        ("summarize journal", {"journal"}),
        ("select payload->>'$.state.total_minor' from events", {"events"}),
    ],
)
def test_a_select_over_listed_names_is_a_query(query: str, names: set[str]) -> None:
    assert checked_names(query) == names


@pytest.mark.parametrize(
    "query",
    [
        "copy orders to '/tmp/out.csv'",
        "copy (select 1) to 's3://lake/out.parquet'",
        "attach '/tmp/other.db'",
        "attach 'postgresql://somebody@db/x' as other (type postgres)",
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from read_parquet('s3://lake/raw/events/x.parquet')",
        "select * from '/etc/passwd'",
        "from '/etc/passwd.csv'",
        "describe select * from read_csv('/etc/passwd')",
        "select * from orders where order_id in (select content from read_text('/etc/passwd'))",
        "with passwords as (from glob('/etc/*')) from passwords",
        "delete from orders",
        "insert into orders select * from orders",
        "update orders set total_minor = 0",
        "create table mine as select 1",
        "drop schema marts cascade",
        "set memory_limit = '100GB'",
        "set variable as_of = map(['pod1'], [1])",
        "reset variable as_of",
        "load httpfs",
        "install spatial",
        "pragma database_list",
        "call ducklake_expire_snapshots('lake', older_than => now())",
        "select * from ducklake_cleanup_old_files('lake', cleanup_all => true)",
        "select * from postgres_query('__ducklake_metadata_lake', 'drop table public.ducklake_table')",
        "select path from duckdb_databases()",
        "select * from duckdb_secrets()",
        "select * from query('select 1')",
        "select * from query_table('orders')",
        "select * from __ducklake_metadata_lake.public.ducklake_table",
        "select * from lake.raw.events",
        "select * from raw.parked",
        "select * from read_models.read_models.account_orders",
        "select * from information_schema.tables",
        "select * from orders at (version => 1)",
        "show databases",
        # Names that WITH gives, used where they mean DuckDB's own tables.
        "with duckdb_databases as (select path from duckdb_databases) from duckdb_databases",
        "select (with duckdb_databases as (select 1) select 1), path from duckdb_databases",
        "with a as (from duckdb_databases), duckdb_databases as (select 1) from a",
        "with recursive r as (from r union all select * from r) from r",
        "select 1; select 2",
        "select 1; drop table orders",
        "explain analyze select 1",
        "selec 1",
        "",
    ],
)
def test_nothing_else_is(query: str) -> None:
    with pytest.raises(InputError) as refused:
        checked_names(query)
    assert len(str(refused.value)) > 20 and "\n" not in str(refused.value)


def test_help_names_all_that_can_be_asked() -> None:
    app = typer.Typer()
    queries.add_commands(app)
    said = " ".join(str(app.registered_commands[0].help).split())
    assert f"Marts: {', '.join(MARTS)}." in said
    assert f"{EVENTS_NAME}. Read models, as they are now: {', '.join(VIEWS)}." in said


def test_every_view_of_the_read_models_can_be_asked() -> None:
    folder = ROOT / "derived" / "read_models" / "migrations"
    created = {
        name
        for file in folder.glob("*.sql")
        for name in re.findall(r"^create table if not exists read_models\.(\w+)", file.read_text(), re.MULTILINE)
    }
    assert set(VIEWS) == created - BOOKKEEPING


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    pods = [
        PodSettings(pod=pod, **{f"{role}_dsn": f"postgresql://{role}:p%40ss@{pod}:5/shop" for role in POD_ROLES})
        for pod in ("pod1", "pod2")
    ]
    return settings_of(
        tmp_path,
        pods=pods,
        control_dsn="postgresql://c:control@db/control",
        catalog_dsn="postgresql://l:catalog@db/lake_catalog",
        read_models_dsn="postgresql://m:views@db/read_models",
        lake_data_path="/lake/",
    )


Started = list[tuple[list[str], dict[str, str]]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, deployment: Settings) -> Started:
    """What psql was started with: its arguments and its environment."""
    found: Started = []

    def remember(_: str, arguments: list[str], environment: dict[str, str]) -> None:
        found.append((arguments, environment))

    monkeypatch.setattr("cli.commands.queries.os.execve", remember)
    monkeypatch.setattr(session, "settings_here", lambda: deployment)
    monkeypatch.setenv("PGHOST", "elsewhere")
    monkeypatch.setenv("TIEOUT_POD1_OWNER_DSN", "postgresql://o:secret@db/x")
    return found


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["psql", *arguments])


def test_psql_reads_only_and_gets_its_password_in_the_environment(started: Started) -> None:
    assert run("pod2", "--", "-c", "select 1").exit_code == 0
    ((arguments, environment),) = started
    assert arguments[1:] == ["-c", "select 1"]
    assert (environment["PGUSER"], environment["PGHOST"], environment["PGPORT"]) == ("reader", "pod2", "5")
    assert environment["PGPASSWORD"] == "p@ss" and environment["PGDATABASE"] == "shop"
    assert environment["PGOPTIONS"] == "-c default_transaction_read_only=on"
    assert not any(name.startswith("TIEOUT_") for name in environment)


def test_a_role_that_writes_is_asked_for(started: Started) -> None:
    refused = run("pod1", "--role", "owner")
    assert isinstance(refused.exception, InputError) and "past commands, outbox and audit" in refused.output
    assert started == []
    assert run("pod1", "--role", "owner", "--yes").exit_code == 0
    assert started[0][1]["PGUSER"] == "owner" and "PGOPTIONS" not in started[0][1]


@pytest.mark.parametrize(("role", "said"), [("owner", "which may change what is there"), ("reader", "may only read")])
def test_a_dry_run_opens_nothing(started: Started, role: str, said: str) -> None:
    done = run("pod1", "--role", role, "--dry-run")
    assert done.exit_code == 0 and said in " ".join(done.output.split()) and "Nothing was done." in done.output
    assert started == []


def test_what_there_is_not_is_named(started: Started, deployment: Settings) -> None:
    assert "There is no 'pod3'; there are pod1, pod2, control" in str(run("pod3").exception)
    assert "control has no role 'reader' here; it has owner" in str(run("control").exception)
    assert "read-models has no role 'reader' here; it has owner" in str(run("read-models").exception)
    assert started == []


def test_psql_that_cannot_be_found_is_said(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("stack.servers.postgres.own_psql", lambda: None)
    assert "There is no psql here" in str(run("pod1").exception)
    assert started == []


def test_reading_roles_of_copies_are_used_where_they_are_set(deployment: Settings) -> None:
    asked = replace(deployment, catalog_reader_dsn="postgresql://q:asking@db/lake_catalog")
    assert queries._dsn(asked, "catalog", "reader") == "postgresql://q:asking@db/lake_catalog"
