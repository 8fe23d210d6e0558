"""Sessions over the embedded stack: the last one out stops it, a killed one counts as gone, one resident at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import psycopg
import pytest

from contracts.errors import InputError, SettingsError, StackError
from contracts.progress import SILENT
from stack import settings
from stack.composition import session
from stack.processes import tracking
from stack.processes.supervision import Supervisor
from stack.servers import bootstrap
from stack.servers.embedded import embedded_servers
from stack.upkeep import lifecycle

pytestmark = pytest.mark.timeout(170)


@pytest.fixture
def folder(started_stack: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The var folder of a stack, named by the environment as a user would; nothing runs in it afterwards."""
    for name in [name for name in os.environ if name.startswith("TIEOUT_") and name != "TIEOUT_TEST_SEED"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TIEOUT_VAR_DIR", str(started_stack))
    yield started_stack
    session.stop_everything(started_stack)


def _in_a_process(folder: Path, code: str) -> subprocess.Popen[str]:
    """Run code that opens a session, prints a line when it has one, and then waits."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "TIEOUT_VAR_DIR": str(folder), "PYTHONPATH": str(settings.ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
import time
from contracts.progress import SILENT
from stack.composition import session
with session.ended_by_signals(), session.open_session(SILENT):
    print("open", flush=True)
    time.sleep(600)
"""


def test_the_last_one_out_stops_the_servers_and_the_data_stay(folder: Path) -> None:
    with session.open_session(SILENT) as outer:
        with psycopg.connect(outer.control_dsn) as connection:
            connection.execute("create table if not exists kept as select 1 as one")
        with session.open_session(SILENT) as inner:
            assert inner == outer
        assert set(embedded_servers(folder).running()) == {server.name for server in embedded_servers(folder).all}
    assert embedded_servers(folder).running() == []
    with session.open_session(SILENT) as again, psycopg.connect(again.control_dsn) as connection:
        assert connection.execute("select one from kept").fetchone() == (1,)


def test_every_role_reaches_its_database_and_secrets_are_private(folder: Path) -> None:
    with session.open_session(SILENT) as values:
        for pod in values.pods:
            for dsn in (pod.owner_dsn, pod.app_dsn, pod.relay_dsn, pod.reader_dsn):
                psycopg.connect(dsn).close()
        for dsn in (values.control_dsn, values.catalog_dsn, values.read_models_dsn, values.dagster_dsn):
            psycopg.connect(dsn).close()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(values.pods[0].app_dsn.replace(f"/{bootstrap.POD_DATABASE}", "/postgres")).execute(
                "create table x ()"
            )
    secrets = [folder / "settings.env", *(folder / "passwords").iterdir(), *folder.glob("*/*.password")]
    assert len(secrets) > 10
    assert {path.stat().st_mode & 0o077 for path in secrets} == {0}


def test_a_terminated_session_stops_what_it_started(folder: Path) -> None:
    with _in_a_process(folder, HOLD) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)
    assert embedded_servers(folder).running() == []


def test_a_killed_session_is_cleaned_up_by_the_next(folder: Path) -> None:
    with _in_a_process(folder, HOLD) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        child.kill()
        child.wait(timeout=60)
    assert set(embedded_servers(folder).running()) == {server.name for server in embedded_servers(folder).all}
    with session.open_session(SILENT):
        pass
    assert embedded_servers(folder).running() == []


def test_a_start_that_fails_half_way_leaves_nothing(folder: Path) -> None:
    with session.open_session(SILENT):
        pass
    version = embedded_servers(folder).control.data / "PG_VERSION"
    right = version.read_text()
    version.write_text("9\n")
    with pytest.raises(StackError, match="control did not start"), session.open_session(SILENT):
        pytest.fail("the session must not open")
    version.write_text(right)
    assert embedded_servers(folder).running() == []


def test_one_resident_at_a_time(folder: Path) -> None:
    with session.residence(folder):
        with pytest.raises(StackError, match=rf"process {os.getpid()}"), session.residence(folder):
            pytest.fail("there must be one resident only")
        seen = session.resident(folder)
        assert seen is not None
        assert seen.pid == os.getpid()
    assert session.resident(folder) is None


def test_leftover_workers_are_found_by_their_marker(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(600)"],
        env={**os.environ, settings.MARKER: str(folder)},
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert [process.pid for process in tracking.marked(folder)] == [child.pid]
        assert session.stop_everything(folder) == [f"worker (process {child.pid})"]


def test_a_file_of_settings_that_is_gone_is_said_and_written_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session.open_session(SILENT) as values:
        file = folder / settings.FILE_NAME
        for is_kept, remedy in ((True, "try again in a few seconds"), (False, "`tieout up` writes it again")):
            file.write_text("")
            with session.residence(folder) if is_kept else nullcontext(), pytest.raises(SettingsError) as raised:
                session.settings_here()
            assert "Tieout runs here" in str(raised.value) and remedy in str(raised.value)
            assert "pod1" in str(raised.value) and "not been started" not in str(raised.value)
        # Who keeps it up writes it, and starts no worker anew: where the servers are is what it was.
        started: list[object] = []
        monkeypatch.setattr(lifecycle, "start_workers", lambda *_, **__: started.append(1))
        monkeypatch.setattr(Supervisor, "is_running", lambda _: True)
        file.unlink()
        assert lifecycle.mend(values, has_traffic=False, pages_port=None) == values
        assert session.settings_here() == values and started == []
    file.unlink()
    with pytest.raises(SettingsError, match="has not been started here yet"):
        session.settings_here()


def test_reset_leaves_nothing(folder: Path, session_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with session.open_session(SILENT):
        pass
    copy = session_folder / "a copy with spaces"
    subprocess.run(["cp", "-a", folder, copy], check=True)
    monkeypatch.setenv("TIEOUT_VAR_DIR", str(copy))
    with session.open_session(SILENT) as values:
        assert values.lake_data_path.startswith(str(copy))
        for name in ("lake", "dagster", "backup", "search"):
            (copy / name).mkdir(exist_ok=True)
    lifecycle.reset()
    assert [path.name for path in copy.iterdir()] == []
    with pytest.raises(SettingsError, match="not been started here"):
        settings.load_settings()


def test_servers_that_are_not_ours_are_neither_started_nor_reset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with session.open_session(SILENT):
        stored = settings.read_settings_file(folder / settings.FILE_NAME)
    for name, value in stored.items():
        monkeypatch.setenv(name, value)
    with session.open_session(SILENT) as values:
        assert values.pods[0].pod == "pod1"
        assert embedded_servers(folder).running() == []
    with pytest.raises(InputError, match="delete their data yourself"):
        lifecycle.reset()


def test_what_a_killed_drill_left_is_stopped_and_a_drill_under_way_is_left_alone(folder: Path) -> None:
    drilled = folder / session.DRILLS_FOLDER / session.DRILLED_SYSTEM
    drilled.mkdir(parents=True)
    left = embedded_servers(drilled).valkey
    left.start()
    lock = drilled.parent / session.DRILL_LOCK
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert session.is_drilling(folder)
        assert session.stop_everything(folder) == [] and left.is_running()
        with pytest.raises(StackError, match="A drill is under way"):
            lifecycle.reset()
        assert drilled.is_dir()
    assert session.stop_everything(folder) == ["valkey of a drill"]
    assert not left.is_running()
