"""Every file that a docstring, a comment or a document names is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(?P<path>[\w.]+(?:/[\w.]+)*\.(?:py|sql|md|toml|yml|yaml))`")
"""A file's name or path in backticks; one with `<copy>` or `*` in it names a kind of file."""


def tracked() -> list[str]:
    """Return the paths of all files of the project."""
    found = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    return found.stdout.splitlines()


FILES = tracked()
NAMES = {Path(file).name for file in FILES} | {"dagster.yaml"}
"""All names, with that of a file that the product writes at its start."""
READ = [file for file in FILES if file.endswith((".py", ".md", ".sql")) and "/migrations/" not in file]


@pytest.mark.parametrize("folder", sorted({file.split("/")[0] for file in READ}))
def test_every_named_file_is_there(folder: str) -> None:
    missing = {
        f"{file} names {path}"
        for file in READ
        if file.split("/")[0] == folder
        for path in NAMED.findall((ROOT / file).read_text(encoding="utf-8"))
        if not _is_there(path, file)
    }
    assert not missing


def _is_there(path: str, by: str) -> bool:
    """Return whether it exists: from the root, from the folder of who names it, or, without a folder, anywhere."""
    if "/" not in path:
        return path in NAMES
    return any((base / path).exists() for base in (ROOT, (ROOT / by).parent)) or any(
        file.endswith(f"/{path}") for file in FILES
    )
