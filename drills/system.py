"""The interface to the system that a drill runs on. This system belongs to the drill and never has real data.

Belongs here: the interface. Does not belong here: starting servers and workers (`stack/upkeep/drill_system.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.settings import Settings
from reconcile.context import ReconcileContext
from streams.projection import Projection

LOG_SERVER = "valkey"
CARTS_SERVER = "carts"
CACHE_SERVER = "cache"
CONTROL_SERVER = "control"
"""The server of the lake's catalog, the views and the control database. The server of a pod has the pod's name."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The result of a command of the runbook."""

    exit_code: int
    answer: Any
    """The JSON that it printed; None when it printed no JSON."""
    complaint: str
    """Its error stream."""


class System(Protocol):
    """A complete system under load."""

    @property
    def settings(self) -> Settings:
        """Its settings."""
        ...

    def worker_states(self) -> Mapping[str, str]:
        """Return the supervisor's state of every worker, by name."""
        ...

    def kill_workers(self, names: Collection[str]) -> None:
        """Kill workers (SIGKILL) and keep them stopped."""
        ...

    def start_workers(self, names: Collection[str]) -> None:
        """Start workers again."""
        ...

    def kill_server(self, name: str) -> None:
        """Kill a server (SIGKILL) with all its processes."""
        ...

    def start_server(self, name: str) -> None:
        """Start a server again at the same address."""
        ...

    def mend(self) -> None:
        """Start every server and worker that a drill has left stopped."""
        ...

    def delete_log(self) -> tuple[int, int]:
        """Delete the data of the killed log server; return (bytes before, bytes left)."""
        ...

    def delete_lake(self) -> int:
        """Replace the lake's catalog database by an empty one, delete the files; return how many of both are left."""
        ...

    def run(self, arguments: Sequence[str]) -> Ran:
        """Run a `tieout` command, as a person would."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return the output of `tieout status --json`."""
        ...

    def build(self) -> Mapping[str, int]:
        """Build the warehouse incrementally; return its cut by pod."""
        ...

    def context(self, *, lag_seconds_max: float) -> ReconcileContext:
        """Return the context of a comparison that waits at most `lag_seconds_max` for a copy."""
        ...

    def projection(self, name: str) -> Projection:
        """Return the projection with this name; asking it how far it is changes nothing."""
        ...

    def clean(self, text: str) -> str:
        """Return a text as one line, without the system's passwords."""
        ...

    def log_tails(self) -> dict[str, str]:
        """Return the last lines of every worker's log."""
        ...
