"""How often workers and servers were restarted since Tieout was started here.

We count workers' restarts in the supervisor's log, which names every process that it starts. The code that restarts
servers counts theirs (`stack/upkeep/lifecycle.py`), and who kills suspended workers counts these
(`stack/processes/suspended.py`). Belongs here: these counts. Does not belong here: showing them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stack.files import write_private

NAME = "restarts.json"
SPAWNED = re.compile(rb"INFO spawned: '([^'\n]+)' with pid \d+")


def begin_counting(folder: Path, log: Path) -> None:
    """Start counting now; `folder` is the supervisor's folder, `log` its log file."""
    size = log.stat().st_size if log.exists() else 0
    _write(folder, {"log_bytes": size, "servers": {}, "suspended": {}})


def note_servers(folder: Path, names: Iterable[str]) -> None:
    """Add one restart for each of these servers."""
    _add(folder, "servers", names)


def note_suspended(folder: Path, names: Iterable[str]) -> None:
    """Note for each of these workers that it was killed because its process was suspended."""
    _add(folder, "suspended", names)


def of_servers(folder: Path) -> Mapping[str, int]:
    """Return how often each server was restarted, by name, without servers that never were."""
    return dict(_read(folder).get("servers", {}))


def of_suspended(folder: Path) -> Mapping[str, int]:
    """Return how often each worker was killed because its process was suspended, by name."""
    return dict(_read(folder).get("suspended", {}))


def of_workers(folder: Path, log: Path) -> Mapping[str, int]:
    """Return how often each worker was restarted, by name: its starts since the count began, minus one."""
    skipped = int(_read(folder).get("log_bytes", 0))
    try:
        written = log.read_bytes()
    except OSError:
        return {}
    # A log that is shorter than before was rotated.
    new = written[skipped:] if len(written) >= skipped else written
    starts = Counter(name.decode() for name in SPAWNED.findall(new))
    return {name: number - 1 for name, number in starts.items()}


def _add(folder: Path, kind: str, names: Iterable[str]) -> None:
    known = _read(folder)
    known[kind] = dict(Counter(known.get(kind, {})) + Counter(names))
    _write(folder, known)


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, counts: Mapping[str, object]) -> None:
    write_private(folder / NAME, json.dumps(counts) + "\n")
