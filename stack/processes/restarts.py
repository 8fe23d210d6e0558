"""How often workers and servers were restarted since Tieout was started here.

We count workers' restarts in the supervisor's log, which names every process that it starts. The code that restarts
servers counts theirs (`stack/upkeep/lifecycle.py`). Belongs here: these counts. Does not belong here: showing them.
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
    _write(folder, {"log_bytes": size, "servers": {}})


def note_servers(folder: Path, names: Iterable[str]) -> None:
    """Add one restart for each of these servers."""
    known = _read(folder)
    known["servers"] = dict(Counter(known.get("servers", {})) + Counter(names))
    _write(folder, known)


def of_servers(folder: Path) -> Mapping[str, int]:
    """Return how often each server was restarted, by name, without servers that never were."""
    return dict(_read(folder).get("servers", {}))


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


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(folder: Path, counts: Mapping[str, object]) -> None:
    write_private(folder / NAME, json.dumps(counts) + "\n")
