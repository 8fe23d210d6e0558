"""A builder that is killed leaves no writer behind; one that it did leave keeps the next builder away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import psycopg
import pytest

from assets import dbt_process
from contracts.errors import WarehouseError
from contracts.waiting import comes_true
from derived.builds import build_lock, writers_lock
from tests.conftest import MakeDatabase

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60.0


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    assert comes_true(is_true, seconds=PATIENCE_SECONDS), f"{what} did not happen in {PATIENCE_SECONDS:g} s"


@pytest.fixture
def stores(make_database: MakeDatabase) -> Any:
    """The two databases that hold the locks."""
    return cast(
        "Any",
        SimpleNamespace(control_dsn=make_database("tieout_control"), catalog_dsn=make_database("tieout_lake")),
    )


def start(stores: Any, beats: Path, is_bound: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a builder; return it and the id of its writer, which is at work."""
    script = str(ROOT / "tests" / "scenario" / "build_process.py")
    arguments = ["build", stores.control_dsn, stores.catalog_dsn, str(beats), is_bound]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    builder = subprocess.Popen([sys.executable, "-P", script, *arguments], env=environment)
    wait_for(lambda: beats.exists() and beats.read_text(encoding="utf-8").count("\n") > 0, "the first write")
    return builder, int(beats.read_text(encoding="utf-8").partition("\n")[0])


def is_gone(process_id: int) -> bool:
    return not psutil.pid_exists(process_id) or psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE


def test_a_writer_ends_with_the_builder_that_is_killed(stores: Any, tmp_path: Path) -> None:
    builder, writer = start(stores, tmp_path / "beats", "bound")
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    wait_for(lambda: is_gone(writer), "the end of the writer")
    with build_lock(stores, timeout_seconds=30):
        assert is_gone(writer)


def test_the_next_builder_waits_for_a_writer_that_was_left_behind(stores: Any, tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    builder, writer = start(stores, beats, "unbound")
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    with pytest.raises(WarehouseError, match="Another warehouse build"), build_lock(stores, timeout_seconds=1):
        pytest.fail("a writer was at work")
    with build_lock(stores, timeout_seconds=60):
        written = beats.read_text(encoding="utf-8")
        time.sleep(0.2)
        assert beats.read_text(encoding="utf-8") == written
    wait_for(lambda: is_gone(writer), "the end of the writer")


def test_a_builder_whose_lock_was_lost_keeps_others_away_all_the_same(stores: Any) -> None:
    with build_lock(stores), psycopg.connect(stores.control_dsn, autocommit=True) as other:
        ended = other.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where datname = current_database() and pid <> pg_backend_pid()"
        )
        assert ended.fetchall() == [(True,)]
        with pytest.raises(WarehouseError, match="Another warehouse build"), build_lock(stores, timeout_seconds=1):
            pytest.fail("a builder was at work")


def test_two_writers_of_one_builder_work_beside_each_other(stores: Any) -> None:
    entered = []
    with build_lock(stores), writers_lock(stores.catalog_dsn, 5):
        entered.append("the first")
        with writers_lock(stores.catalog_dsn, 5):
            entered.append("the second")
    assert entered == ["the first", "the second"]


def test_a_writer_whose_builder_is_gone_before_it_begins_does_nothing(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dbt_process.PARENT, "1")
    monkeypatch.setenv(dbt_process.CATALOG, stores.catalog_dsn)
    monkeypatch.setattr(dbt_process, "end_with_parent", lambda parent_id: None)
    done: list[int] = []
    dbt_process.run_as_writer(lambda: done.append(1))
    assert done == []
    monkeypatch.delenv(dbt_process.PARENT)
    dbt_process.run_as_writer(lambda: done.append(1))
    assert done == [1]


@pytest.mark.parametrize("is_for_a_build", [pytest.param(False, marks=pytest.mark.long), True])
def test_dbt_is_started_through_the_program_that_holds_the_lock(
    stores: Any, tmp_path: Path, is_for_a_build: bool
) -> None:
    program = dbt_process.executable(tmp_path / "bin")
    environment = {name: value for name, value in os.environ.items() if name != dbt_process.PARENT}
    if is_for_a_build:
        environment |= {dbt_process.PARENT: str(os.getpid()), dbt_process.CATALOG: stores.catalog_dsn}
    told = subprocess.run([program, "--version"], env=environment, capture_output=True, text=True, check=True)
    assert "installed" in told.stdout
