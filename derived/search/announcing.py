"""Announcing commits beside an index, so that a witness tells them from a stranger's.

Before a commit it is said to be under way, after it which list of segments is ours. A writer that is killed in between
leaves its announcement under way; the next commit ends it. Belongs here: that file. Does not belong here: who looks at
it (`witness/search.py`).
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
    _say(folder, is_under_way=True)
    yield
    _say(folder, is_under_way=False)


def _say(folder: Path, *, is_under_way: bool) -> None:
    segments = folder / SEGMENTS
    digest = hashlib.sha256(segments.read_bytes()).hexdigest() if segments.is_file() else ""
    said = folder / f"{INDEX_COMMITS}.{os.getpid()}"
    said.write_text(json.dumps({"digest": digest, "is_under_way": is_under_way}), encoding="ascii")
    said.replace(folder / INDEX_COMMITS)
