"""Why something does not go on, in its own words: a worker that refuses its work, servers that cannot be started again.

Who does not go on writes it into a file, and takes it back when it goes on; who looks reads the files. Belongs here:
these files. Does not belong here: what follows from them (`stack/looking/verdict.py`, `stack/upkeep/watching.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from stack.files import write_private

FOLDER = "refusals"
SERVERS = "servers"
"""Under which it stands that ended servers could not be started again; workers stand under their own names."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a process said when it could not go on."""

    process_id: int
    sentence: str


def note(var_dir: Path, name: str, sentence: str) -> None:
    """Say why `name` does not go on, for this process. `sentence` names no password."""
    said = msgspec.json.encode(Refusal(process_id=os.getpid(), sentence=sentence)).decode()
    with suppress(OSError):  # on a full disk the log has it, or nobody
        write_private(_file(var_dir, name), said)


def take_back(var_dir: Path, name: str) -> None:
    """Say that `name` goes on."""
    _file(var_dir, name).unlink(missing_ok=True)


def refusals(var_dir: Path) -> Mapping[str, Refusal]:
    """Return what was said last, by name; whoever reads it must know whether that process is still the one."""
    found = {}
    for file in (var_dir / FOLDER).glob("*.json"):
        with suppress(OSError, msgspec.MsgspecError):
            found[file.stem] = msgspec.json.decode(file.read_bytes(), type=Refusal)
    return found


def of_servers(var_dir: Path) -> str:
    """Return why the process that keeps everything up cannot start servers again; nothing: it can, or has ended."""
    said = refusals(var_dir).get(SERVERS)
    return said.sentence if said is not None and psutil.pid_exists(said.process_id) else ""


def _file(var_dir: Path, name: str) -> Path:
    return var_dir / FOLDER / f"{name}.json"
