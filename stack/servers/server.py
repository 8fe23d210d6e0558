"""What every embedded server does: start on a free port of loopback, be found when it runs, stop.

Belongs here: the life of its process. Does not belong here: its configuration, its data and when it is ready
(`postgres.py`, `valkey.py`).
"""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil

from contracts.errors import StackError
from contracts.waiting import wait_until
from stack import files, ports
from stack.processes import tracking


@dataclass(kw_only=True)
class EmbeddedServer(ABC):
    """One server. `folder` holds its data and its password; `start` creates it."""

    PRODUCT: ClassVar[str]
    STOP_SIGNALS: ClassVar[Sequence[tuple[int, float]]]
    """The signals that stop it, and how many seconds we wait after each."""
    START_TIMEOUT_SECONDS: ClassVar[float]
    PORT_TAKEN: ClassVar[str]
    """What the server writes into its log when another process has its port."""

    name: str
    folder: Path
    log: Path
    is_durable: bool = True
    """False for what may be lost, and for tests: no fsync, or nothing on disk at all."""
    port: int = field(default=0, init=False)

    def stop(self) -> None:
        """Stop the server, even if another process started it; do nothing when it does not run."""
        process = self._process()
        if process is not None and not tracking.stop(process, signals=self.STOP_SIGNALS):
            raise StackError(f"{self._title} (process {process.pid}) does not stop; its log is {self.log}.")

    def kill(self) -> None:
        """Kill all processes of the server at once, as a crash does; nothing is written. For drills and tests."""
        process = self._process()
        if process is not None:
            tracking.kill_tree(process)

    def is_running(self) -> bool:
        """Return whether the server's process lives."""
        return self._process() is not None

    @property
    def _title(self) -> str:
        return f"{self.PRODUCT} {self.name}"

    @abstractmethod
    def _process(self) -> psutil.Process | None:
        """Return the server's process; None: it does not run."""

    @abstractmethod
    def _configure(self) -> Sequence[str | Path]:
        """Write the configuration for `port`; return the command that runs the server with it."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Return whether the server takes connections."""

    @abstractmethod
    def _reason(self) -> str:
        """Return why the server did not start, from its log."""

    @abstractmethod
    def _popen_options(self) -> dict[str, Any]:
        """Return where and as whom its process runs."""

    def _last_port(self) -> int | None:
        return tracking.read_process_id(self.folder / "port")

    def _launch(self, *, attempts: int = 3) -> None:
        self.port = ports.free_port(self._last_port())
        files.write_private(self.folder / "port", f"{self.port}\n")
        command = self._configure()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        files.rotate(self.log)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=files.PRIVATE_MASK,
                **self._popen_options(),
            )
        try:
            self._wait_until_ready(child)
        except StackError:
            if child.poll() is None:
                child.kill()
            child.wait()
            # Another process may have taken the port between our check and the server's bind.
            if attempts > 1 and self.PORT_TAKEN in files.tail(self.log, 6):
                self._launch(attempts=attempts - 1)
                return
            raise
        tracking.release(child)

    def _wait_until_ready(self, child: subprocess.Popen[bytes] | None = None) -> None:
        def ready() -> bool:
            if child is not None and child.poll() is not None:
                raise StackError(f"{self._title} did not start ({self._reason()}); its log is {self.log}.")
            return self._is_ready()

        wait_until(
            ready,
            timeout_seconds=self.START_TIMEOUT_SECONDS,
            failure=lambda: f"{self._title} was not ready in time; its log is {self.log}.",
        )
