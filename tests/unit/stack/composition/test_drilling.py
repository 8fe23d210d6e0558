"""The drilling process knows no servers but its own, and evidence names the code that it is about."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from contracts.errors import StackError
from stack.code_version import code_version
from stack.composition import drilling
from stack.composition.drilling import drill_environment
from stack.upkeep.drill_system import own_system


def test_the_drilling_process_is_told_of_no_other_servers(tmp_path: Path) -> None:
    around = {"PATH": "/bin", "TIEOUT_PODS": "pod1", "TIEOUT_POD1_OWNER_DSN": "postgresql://x", "TIEOUT_STACK": "/v"}
    given = drill_environment(around, tmp_path)
    assert given["PATH"] == "/bin"
    assert {name: value for name, value in given.items() if name.startswith("TIEOUT")} == {
        "TIEOUT_VAR_DIR": str(tmp_path),
        "TIEOUT_WEBHOOK_OPEN_HOSTS": "127.0.0.1",
    }


def test_drills_never_run_where_somebody_has_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.env").write_text("TIEOUT_PODS=pod1")
    monkeypatch.setenv("TIEOUT_VAR_DIR", str(tmp_path))
    monkeypatch.delenv("TIEOUT_PODS", raising=False)
    with pytest.raises(StackError, match="no drill has made"), own_system([], orders_per_second=1):
        pass
    monkeypatch.setenv("TIEOUT_VAR_DIR", str(tmp_path / "new"))
    monkeypatch.setenv("TIEOUT_PODS", "pod1")
    with pytest.raises(StackError, match="must not name others"), own_system([], orders_per_second=1):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["settings.env"]


def test_code_without_a_repository_is_named_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    first = code_version(tmp_path)
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "b.py").write_text("not code")
    assert code_version(tmp_path) == first
    (tmp_path / "a.py").write_text("two")
    assert re.fullmatch(r"files-[0-9a-f]{12}", first) and code_version(tmp_path) != first


def test_code_in_a_repository_is_named_by_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    (tmp_path / "a.py").write_text("one")
    git("add", ".")
    git("commit", "-m", "first")
    clean = code_version(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{12}", clean)
    (tmp_path / "a.py").write_text("two")
    assert code_version(tmp_path) == f"{clean}+changes"


def test_nobody_drills_before_the_drilling_process_of_one_that_was_killed_has_ended(tmp_path: Path) -> None:
    with drilling._alone(tmp_path) as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    try:
        with pytest.raises(StackError, match="under way"), drilling._alone(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()
    with drilling._alone(tmp_path):
        pass
