"""The databases beside the pods are set back to older copies of themselves, as a restore of yesterday's files does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from contracts.settings import Settings
from contracts.verdicts import Verdict
from reconcile.comparison_run import run_pairs
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from tests.conftest import Cluster
from tests.integration.cli.test_open_epoch import check_everything_agrees, event_ids, lake_ids
from tests.integration.reconcile_world import VIEW_PAIRS
from tests.integration.stack.test_set_back import live_on, states

PutBack = Callable[[], None]


@contextmanager
def older(cluster: Cluster, dsn: str) -> Iterator[PutBack]:
    """Copy a database as it is now; the function that is handed out puts that copy in its place."""
    present = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    kept = f"{present}_kept"
    with psycopg.connect(cluster.superuser_dsn(), autocommit=True) as server:

        def run(statement: str) -> None:
            for database in (present, kept):
                server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,))
            names = {"present": sql.Identifier(present), "kept": sql.Identifier(kept)}
            server.execute(sql.SQL(statement).format(**names))

        run("create database {kept} template {present}")

        def put_back() -> None:
            run("drop database {present}")
            run("alter database {kept} rename to {present}")

        try:
            yield put_back
        finally:
            run("drop database if exists {kept}")


def compared(system: Settings, *pairs: str) -> set[Verdict]:
    results = run_pairs(build_reconcile_context(system, lag_seconds_max=0.2), pairs, ["pod1"])
    return {result.verdict for result in results}


def check_whole(system: Settings) -> None:
    drain_everything(system)
    assert states(system) == {"current"}
    assert sorted(lake_ids(system)) == sorted(event_ids(system))
    check_everything_agrees(system, ["pod1"])


@pytest.mark.in_turn("stores")
def test_an_older_catalog_is_behind_and_catches_up(system: Settings, postgres: Cluster) -> None:
    with older(postgres, system.catalog_dsn) as put_back:
        live_on(system)
        put_back()
    assert "late" in states(system) or "behind" in states(system), states(system)
    # The views have what the lake lacks: that is no fault of theirs.
    assert compared(system, *VIEW_PAIRS, "oltp_lake.order") == {Verdict.LATE}
    check_whole(system)


@pytest.mark.in_turn("stores")
def test_older_read_models_are_behind_and_catch_up(system: Settings, postgres: Cluster) -> None:
    with older(postgres, system.read_models_dsn) as put_back:
        live_on(system)
        put_back()
    assert states(system) != {"current"}
    assert compared(system, *VIEW_PAIRS) <= {Verdict.LATE, Verdict.CONSISTENT}
    check_whole(system)
