"""Announcing commits beside an index, so that a witness tells them from a stranger's.

Before a commit it is said to be under way, after it which list of segments is ours. Whoever announces a commit also
says which list it found, if that is not the one announced last: a stranger's, which this commit hides from the witness.
A writer that is killed in between leaves its announcement under way; the next commit ends it. Belongs here: that file.
Does not belong here: who looks at it (`witness/search.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contracts.announcements import INDEX_COMMITS

SEGMENTS = "meta.json"


@contextmanager
def announced(folder: Path) -> Iterator[None]:
    """Announce the commit that the block makes in the index of this folder; its writer holds the lock."""
    stranger = _stranger(folder)
    _say(folder, stranger, is_under_way=True)
    yield
    _say(folder, stranger, is_under_way=False)


def _stranger(folder: Path) -> str:
    """Return the digest of the newest list of segments that no writer of ours made; empty: there was none."""
    try:
        said = json.loads((folder / INDEX_COMMITS).read_bytes())
    except (FileNotFoundError, ValueError):
        return ""
    found = _digest(folder)
    return str(said.get("stranger", "")) if said["is_under_way"] or said["digest"] == found else found


def _digest(folder: Path) -> str:
    segments = folder / SEGMENTS
    return hashlib.sha256(segments.read_bytes()).hexdigest() if segments.is_file() else ""


def _say(folder: Path, stranger: str, *, is_under_way: bool) -> None:
    said = folder / f"{INDEX_COMMITS}.{os.getpid()}"
    announced = {"digest": _digest(folder), "is_under_way": is_under_way, "stranger": stranger}
    said.write_text(json.dumps(announced), encoding="ascii")
    said.replace(folder / INDEX_COMMITS)
