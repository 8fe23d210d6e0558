"""What builds of the warehouse took of memory at most, in a file beside the other runtime files.

Belongs here: that file. Does not belong here: builds (`derived/builds.py`), when people are told
(`stack/looking/headroom.py`).
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
"""A large build counts so long, however small the next ones are."""


@dataclass(frozen=True, kw_only=True)
class BuildMemory:
    """The most that a process that builds held."""

    peak_mb: float
    at: datetime


def note_build_memory(settings: Settings, peak_mb: float, now: datetime) -> None:
    """Note what a build took, unless a larger one of the last day is noted."""
    known = build_memory(settings, now)
    if known is not None and known.peak_mb >= peak_mb:
        return
    path = _path(settings)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):  # a full disk fails the build where it matters
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"peak_mb": round(peak_mb, 1), "at": now.isoformat()}), encoding="utf-8")
        draft.replace(path)


def build_memory(settings: Settings, now: datetime) -> BuildMemory | None:
    """Return the largest build of the last day; None: there was none here."""
    with suppress(OSError, ValueError, KeyError):
        values = json.loads(_path(settings).read_text(encoding="utf-8"))
        found = BuildMemory(peak_mb=float(values["peak_mb"]), at=datetime.fromisoformat(values["at"]))
        return found if now - found.at < KEPT else None
    return None


def _path(settings: Settings) -> Path:
    return settings.var_dir / "memory" / "build.json"
