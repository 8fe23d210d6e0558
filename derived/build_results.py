"""The newest build's result for each node, stored in a file for processes that did not run the build.

Belongs here: that file. Does not belong here: the records and cuts of builds (`derived/builds.py`), sentences about
failures for people (`derived/warehouse.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from contracts.settings import Settings


@dataclass(frozen=True, kw_only=True)
class NodeResult:
    """One model or test of a build. `status`: success, pass, fail, warn, error or skipped."""

    name: str
    kind: str
    """``model`` or ``test``."""
    status: str
    failures: int
    """Rows that a test returned."""
    message: str
    rows: int | None = None
    """Rows of a model that is stored as a table; None for views."""


@dataclass(frozen=True, kw_only=True)
class KeptBuild:
    """A build of everything, with the result of each node."""

    build_id: str
    cuts: Mapping[str, int]
    """Pod -> cut."""
    nodes: Sequence[NodeResult]


def keep_build(settings: Settings, build: KeptBuild) -> None:
    """Store a build's results in place of the previous build's; the caller holds the build lock."""
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Other processes may read the file now: rename it into place, so that they never see half of it.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.encode(build))
    draft.replace(path)


def kept_build(settings: Settings) -> KeptBuild | None:
    """Return the newest build that was stored; None if there is none, or if an older version wrote it."""
    try:
        return msgspec.json.decode(_path(settings).read_bytes(), type=KeptBuild)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _path(settings: Settings) -> Path:
    return settings.var_dir / "dbt" / "newest_build.json"
