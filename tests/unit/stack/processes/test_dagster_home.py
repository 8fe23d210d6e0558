"""Where Dagster's code servers listen: a socket's path has an end, and a start leaves no folder behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import StackError
from stack.processes.dagster_home import code_locations

WORKSPACE = """
load_from:
  - python_module: {module_name: orchestration.definitions, attribute: defs, location_name: commerce}
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    path = tmp_path / "workspace.yaml"
    path.write_text(WORKSPACE)
    return path


def test_a_short_home_holds_its_own_sockets(workspace: Path) -> None:
    (location,) = code_locations(workspace, Path("/short"))
    assert location.socket == Path("/short/commerce.sock")
    assert list((workspace.parent / "tmp").iterdir()) == []


def test_a_long_home_has_one_folder_for_its_sockets_however_often_it_starts(workspace: Path) -> None:
    homes = [workspace.parent / ("long" * 30) / name for name in ("one", "two")]
    sockets = {home: {code_locations(workspace, home)[0].socket for _ in range(3)} for home in homes}
    assert all(len(found) == 1 for found in sockets.values())
    folders = {socket.parent for found in sockets.values() for socket in found}
    assert set((workspace.parent / "tmp").iterdir()) == folders and len(folders) == 2
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


@pytest.mark.parametrize("made", ["open to others", "a link"])
def test_a_folder_that_somebody_else_made_first_is_refused(workspace: Path, made: str) -> None:
    home = workspace.parent / ("long" * 30)
    folder = code_locations(workspace, home)[0].socket.parent
    folder.rmdir()
    if made == "a link":
        (workspace.parent / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(workspace.parent / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(StackError, match="belongs to somebody else"):
        code_locations(workspace, home)
