"""Queries in SQL over a built warehouse: what they may not do, wall by wall, and by which role they ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from contracts.errors import InputError, TieoutError, WarehouseError
from contracts.settings import Settings
from derived import querying
from derived.querying import Limits, ask
from stack.servers import bootstrap
from tests.conftest import Cluster

FORBIDDEN = (
    "copy (select 1) to '{folder}/out.csv'",
    "attach '{folder}/other.db'",
    "select * from read_csv('/etc/passwd')",
    "select * from '/etc/passwd'",
    "delete from lake.intermediate.int_orders_history",
    "create table lake.marts.mine as select 1",
    "set memory_limit = '1GB'",
    "set enable_external_access = true",
    "load httpfs",
    "select * from ducklake_expire_snapshots('lake', older_than => now())",
    "delete from __ducklake_metadata_lake.public.ducklake_table",
)


def by_reading_role(cluster: Cluster, settings: Settings) -> Settings:
    """Return the settings with a DSN of the catalog for a role that may only read."""
    passwords = {bootstrap.QUERY_ROLE: "asking"}
    bootstrap.create_roles(cluster.superuser_dsn(), passwords)
    database = str(conninfo_to_dict(settings.catalog_dsn)["dbname"])
    bootstrap.let_query(cluster.superuser_dsn(), [database])
    dsn = cluster.server.dsn(bootstrap.QUERY_ROLE, passwords[bootstrap.QUERY_ROLE], database)
    return replace(settings, catalog_reader_dsn=dsn)


def check_it_only_reads(settings: Settings, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing forbidden is done, also where the look at the query is left out: the other walls stand by themselves."""
    for is_looked_at in (True, False):
        if not is_looked_at:
            monkeypatch.setattr(querying, "checked_names", lambda query: frozenset())
        for query in FORBIDDEN:
            with pytest.raises(TieoutError):
                ask(settings, query.format(folder=folder))
        assert list(folder.iterdir()) == []
    monkeypatch.undo()
    with psycopg.connect(settings.catalog_reader_dsn, autocommit=True) as connection:
        connection.execute("set default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from ducklake_table")


def check_its_limits(settings: Settings) -> None:
    """Rows and time are bounded, and what is wrong with a query is said."""
    few = ask(settings, "select order_id from orders order by order_id", limits=Limits(rows_max=3))
    assert len(few.rows) == 3 and few.is_cut_off and few.columns == ("order_id",)
    assert not ask(settings, "select * from range(3)", limits=Limits(rows_max=3)).is_cut_off
    with pytest.raises(InputError, match=r"longer than 0\.2 seconds"):
        endless = "select count(*) from range(10000000) a, range(10000000) b where a.range * b.range % 7 = 3"
        ask(settings, endless, limits=Limits(seconds_max=0.2))
    with pytest.raises(InputError, match=r"cannot be answered: .*no_such_column"):
        ask(settings, "select no_such_column from orders")
    with pytest.raises(WarehouseError, match="read models could not be reached") as unreachable:
        closed = replace(settings, read_models_dsn="postgresql://m:hidden@127.0.0.1:9/none")
        ask(closed, "select * from account_orders")
    assert "hidden" not in str(unreachable.value)
