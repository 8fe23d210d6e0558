"""Memory that was freed goes back to the system, so that one step's peak does not stand below the next one's."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contracts.errors import StackError
from derived import lake_connection
from stack.composition import draining as propagation
from streams import consumer, logs

ROOT = Path(__file__).resolve().parents[4]
DECAY = """
import ctypes, json, PACKAGE, _duckdb
try:
    control = ctypes.CDLL(_duckdb.__file__).duckdb_je_mallctl
except AttributeError:
    found = None
else:
    value, size = ctypes.c_ssize_t(-1), ctypes.c_size_t(8)
    control(b"opt.dirty_decay_ms", ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    found = value.value
print(json.dumps(found))
"""


class Closable:
    """Stands for a projection, or for the log; knows whether it was closed."""

    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


@pytest.mark.parametrize("package", ["stack", "cli"])
def test_what_duckdb_frees_goes_back_at_once(package: str) -> None:
    program = DECAY.replace("PACKAGE", package)
    done = subprocess.run([sys.executable, "-P", "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    found = json.loads(done.stdout)
    if found is None:
        pytest.skip("this build of DuckDB has an allocator of another kind")
    assert found == 0


def test_a_copy_that_was_brought_up_to_date_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    projection, log = Closable(), Closable()
    drained = SimpleNamespace(drain=lambda until_cut: SimpleNamespace(events=7, parked=0))
    monkeypatch.setattr(logs, "build_log", lambda settings: log)
    monkeypatch.setattr(propagation, "build_projection", lambda name, settings: projection)
    monkeypatch.setattr(consumer, "Consumer", lambda *arguments: drained)
    assert propagation._apply("lake", "pod1", 3, cast(Any, None)) == (7, 0)
    assert projection.is_closed and log.is_closed


@pytest.mark.parametrize(("data_path", "is_kept"), [("/nowhere/lake", False), ("s3://bucket/lake", True)])
def test_only_files_of_an_object_store_are_kept_in_memory(
    monkeypatch: pytest.MonkeyPatch, data_path: str, is_kept: bool
) -> None:
    opened = []

    def remember(connection: Any, path: str) -> None:
        opened.append(connection)

    monkeypatch.setattr(lake_connection, "_load_extensions", remember)
    monkeypatch.setattr(lake_connection, "quote", lambda text: _keeping(opened[0], seen, text))
    seen: list[bool] = []
    with suppress(StackError):
        lake_connection.connect_lake("postgresql://nobody@127.0.0.1:1/none", data_path)
    assert seen[-1] is is_kept


def test_what_killed_users_of_the_lake_spilled_is_removed_and_what_others_use_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    folder = tmp_path / "scratch"
    left, used, other = (folder / f"{name}" for name in (f"tieout-lake-{ended.pid}-a", "tieout-lake-1-b", "other"))
    for one in (left, used, other):
        one.mkdir(parents=True)
        (one / "spilled").write_bytes(b"large")
    chosen = lake_connection._spill_folder(lake_connection.Bounds(spill_folder=folder))
    assert chosen.parent == folder and not chosen.exists(), "DuckDB makes it, and so removes it"
    assert sorted(path.name for path in folder.iterdir()) == ["other", "tieout-lake-1-b"]


def test_the_lake_spills_where_only_its_owner_looks(tmp_path: Path) -> None:
    folder = tmp_path / "var" / "scratch"
    lake_connection._spill_folder(lake_connection.Bounds(spill_folder=folder))
    assert folder.stat().st_mode & 0o077 == 0


OPENERS = (
    "events_from_backup",
    "backed_up_after",
    "connect_lake",
    "LakeProjection",
    "migrate_lake",
    "compact",
    "back_up",
    "restore",
    "load_cuts",
    "change_lake",
)


def test_whoever_opens_the_lake_says_what_that_may_take() -> None:
    found, unbounded = 0, []
    for folder in ("cli", "derived", "repair", "stack", "drills", "orchestration", "assets", "checks", "streams"):
        for path in (ROOT / folder).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in OPENERS:
                    found += 1
                    if "bounds" not in [keyword.arg for keyword in call.keywords]:
                        unbounded.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert found > 10
    assert unbounded == []


def test_no_duckdb_is_opened_without_limits() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in (
            "cli",
            "derived",
            "repair",
            "reconcile",
            "stack",
            "drills",
            "orchestration",
            "assets",
            "checks",
            "streams",
        )
        for path in (ROOT / folder).rglob("*.py")
        if "duckdb.connect(" in path.read_text(encoding="utf-8")
    ]
    assert found == ["derived/lake_connection.py"]


def _keeping(connection: Any, seen: list[bool], text: str) -> str:
    ((kept,),) = connection.execute("select current_setting('enable_external_file_cache')").fetchall()
    seen.append(bool(kept))
    return "'" + text.replace("'", "''") + "'"
