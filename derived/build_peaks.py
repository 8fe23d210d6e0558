"""The peak memory of recent builds of the warehouse, in a file beside the other runtime files.

Belongs here: that file. Does not belong here: builds (`derived/builds.py`), when people are told
(`stack/looking/headroom.py`), the limit itself (`contracts/settings.py`).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from contracts.settings import Settings

KEPT = timedelta(days=1)
"""The peak of a large build is kept this long, even if later builds are smaller."""


@dataclass(frozen=True, kw_only=True)
class BuildMemory:
    """The peak memory of a building process."""

    peak_mb: float
    at: datetime


def note_build_memory(settings: Settings, peak_mb: float, now: datetime) -> None:
    """Write down a build's peak memory, unless a larger one of the last day is in the file."""
    known = build_memory(settings, now)
    if known is not None and known.peak_mb >= peak_mb:
        return
    path = _path(settings)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):  # if the disk is full, the build itself fails and reports it
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"peak_mb": round(peak_mb, 1), "at": now.isoformat()}), encoding="utf-8")
        draft.replace(path)


def build_memory(settings: Settings, now: datetime) -> BuildMemory | None:
    """Return the largest peak of the last day; None if there is none in this folder."""
    with suppress(OSError, ValueError, KeyError):
        values = json.loads(_path(settings).read_text(encoding="utf-8"))
        found = BuildMemory(peak_mb=float(values["peak_mb"]), at=datetime.fromisoformat(values["at"]))
        return found if now - found.at < KEPT else None
    return None


def _path(settings: Settings) -> Path:
    return settings.var_dir / "memory" / "build.json"
