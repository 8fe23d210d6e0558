"""Files that say why a worker cannot continue, or why ended servers cannot be started again.

The process that cannot continue writes its file, and deletes it when it continues. The status and the watch read the
files. Belongs here: these files. Does not belong here: what follows from them (`stack/looking/verdict.py`,
`stack/upkeep/watching.py`).
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
"""The name of the file that says why ended servers cannot be started again; workers' files have the workers' names."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The reason that a process gave when it could not continue."""

    process_id: int
    sentence: str


def note(var_dir: Path, name: str, sentence: str) -> None:
    """Store why `name` cannot continue, with the id of this process. `sentence` must not contain a password."""
    said = msgspec.json.encode(Refusal(process_id=os.getpid(), sentence=sentence)).decode()
    with suppress(OSError):  # on a full disk the reason is in the log only, or lost
        write_private(_file(var_dir, name), said)


def take_back(var_dir: Path, name: str) -> None:
    """Delete the reason, because `name` continues."""
    _file(var_dir, name).unlink(missing_ok=True)


def refusals(var_dir: Path) -> Mapping[str, Refusal]:
    """Return the last reasons by name. The caller must check whether the process in it is still the present one."""
    found = {}
    for file in (var_dir / FOLDER).glob("*.json"):
        with suppress(OSError, msgspec.MsgspecError):
            found[file.stem] = msgspec.json.decode(file.read_bytes(), type=Refusal)
    return found


def of_servers(var_dir: Path) -> str:
    """Return why the resident process cannot start servers again; empty when it can, or when it has ended."""
    said = refusals(var_dir).get(SERVERS)
    return said.sentence if said is not None and psutil.pid_exists(said.process_id) else ""


def _file(var_dir: Path, name: str) -> Path:
    return var_dir / FOLDER / f"{name}.json"
