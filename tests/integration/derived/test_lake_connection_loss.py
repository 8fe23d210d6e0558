"""The lake's catalog going away in the middle of a transaction: an error that is tried again, never the process's end.

Each case runs in a process of its own, because what is excluded here is that it ends by SIGABRT: DuckDB rolls an open
transaction back in a destructor, and that throws when the catalog's server is gone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.integration.derived.conftest import Lake

ROOT = Path(__file__).resolve().parents[3]
BEGIN = re.compile(r"""execute\(\s*f?["']begin["']""")

LOSE = """
import sys
import psycopg
catalog, path, superuser = sys.argv[1:4]

def lose():
    with psycopg.connect(superuser, autocommit=True) as server:
        server.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where datname = %s and pid <> pg_backend_pid()",
            (catalog.rpartition("/")[2],),
        )
"""
APPLY = """
from datetime import UTC, datetime
import derived.lake
from contracts.errors import PropagationError
from derived.lake import LakeProjection
from streams.projection import START, Position, Work

lake = LakeProjection(catalog, path)
state = lake.state("pod1")
work = Work(pod="pod1", epoch="e", entries=(), expected={0: START}, positions={0: Position(cut=1, chunk=0)},
            data_at=datetime.now(UTC))
append = derived.lake._append_events
derived.lake._append_events = lambda cursor, given: (lose(), append(cursor, given))
try:
    lake.apply(work)
except PropagationError as error:
    print("failed:", error)
derived.lake._append_events = append
lake.apply(work)
print("stands at", lake.state("pod1").positions[0].cut)
"""
READ = """
import duckdb
from derived.lake_connection import connect_lake, transaction

try:
    with connect_lake(catalog, path, read_only=True) as connection, transaction(connection):
        connection.execute("select count(*) from lake.raw.events").fetchall()
        lose()
        connection.execute("select count(*) from lake.raw.cuts").fetchall()
except duckdb.Error as error:
    print("failed:", error)
with connect_lake(catalog, path, read_only=True) as connection:
    print("stands at", 1 + connection.execute("select count(*) from lake.raw.cuts").fetchall()[0][0])
"""


@pytest.mark.parametrize("work", [APPLY, READ], ids=["writing", "reading"])
def test_a_catalog_lost_within_a_transaction_is_an_error_and_not_the_end(
    lake: Lake, postgres: Cluster, work: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSE + work, lake.catalog_dsn, lake.data_path, postgres.superuser_dsn()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "failed:" in done.stdout, "the catalog was not lost, so nothing was tried"
    assert "stands at 1" in done.stdout


def test_transactions_of_the_lake_are_begun_in_one_place() -> None:
    # `transaction` rolls back before a connection is closed; whoever begins one by himself may forget it.
    folders = ("cli", "derived", "finance", "repair", "stack", "drills", "checks", "assets", "orchestration", "streams")
    found = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if BEGIN.search(path.read_text(encoding="utf-8"))
    ]

    assert found == ["derived/lake_connection.py"]
