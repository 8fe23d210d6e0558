"""A PostgreSQL of another version than the embedded one, where a machine has it, for tests."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack import files
from stack.servers.postgres import CONFIGURATION, EmbeddedPostgres
from stack.servers.unix_account import make_reachable_folder, runnable_tree

SETTING = "TIEOUT_TEST_POSTGRESQL"
"""Names folders with `postgres` and `initdb`, separated like those of PATH."""

USUAL_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
NEW_OPTIONS = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
"""Of `initdb`, known from 17 on; without them the locale C sorts alike."""


def other_installations() -> dict[int, Path]:
    """Return major version -> folder of programs, of the versions 15 to 17 that this machine has."""
    named = [Path(folder) for folder in os.environ.get(SETTING, "").split(os.pathsep) if folder]
    usual = [folder for pattern in USUAL_FOLDERS for folder in sorted(Path("/").glob(pattern[1:]))]
    found = {}
    for folder in (*usual, *named):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            found[major_version(folder)] = folder
    return {version: folder for version, folder in sorted(found.items()) if 15 <= version <= 17}


def major_version(programs: Path) -> int:
    """Return the major version of the PostgreSQL in a folder."""
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\) (\d+)", said)
    assert found, said
    return int(found[1])


@dataclass(kw_only=True)
class OtherPostgres(EmbeddedPostgres):
    """A server of the version whose programs are in `installation`."""

    installation: Path
    version: int

    def _programs(self) -> Path:
        outside = make_reachable_folder(self.folder, self.account)
        return runnable_tree(self.installation.parent, "bin/postgres", self.account, outside) / "bin"

    def _run(self, command: list[str | Path]) -> None:
        super()._run([part for part in command if self.version >= 17 or part not in NEW_OPTIONS])

    def _configure(self) -> Sequence[str | Path]:
        command = super()._configure()
        values = {"port": self.port, "shared_buffers": self.shared_buffers, "fsync": "off"}
        text = "\n".join(self._known(CONFIGURATION.format(**values).splitlines()))
        files.write_private(self.data / "postgresql.conf", f"{text}\n")
        self.account.own(self.data / "postgresql.conf")
        return command

    def _known(self, lines: list[str]) -> Iterator[str]:
        yield from (line for line in lines if self.version >= 16 or not line.startswith("reserved_connections"))
