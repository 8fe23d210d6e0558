"""What a drill may do to the system that it runs on; the system is the drill's own, never one with somebody's data.

Belongs here: the port. Does not belong here: starting servers and workers (`stack/upkeep/drill_system.py` does).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from contracts.settings import Settings
from reconcile.context import ReconcileContext
from streams.projection import Projection

LOG_SERVER = "valkey"
CONTROL_SERVER = "control"
"""Holds the lake's catalog, the views and the control database. A pod's server has the pod's name."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command of the runbook answered."""

    exit_code: int
    answer: Any
    """What it printed as JSON; None when that was none."""
    complaint: str
    """What it wrote to the error stream."""


class System(Protocol):
    """A whole system under load."""

    @property
    def settings(self) -> Settings:
        """Its addresses."""
        ...

    def worker_states(self) -> Mapping[str, str]:
        """Return the state of every worker by name, as the supervisor says."""
        ...

    def kill_workers(self, names: Collection[str]) -> None:
        """Kill workers (SIGKILL) and keep them from starting."""
        ...

    def start_workers(self, names: Collection[str]) -> None:
        """Start workers again."""
        ...

    def kill_server(self, name: str) -> None:
        """Kill a server (SIGKILL) with all its processes."""
        ...

    def start_server(self, name: str) -> None:
        """Start a server again, at the same address."""
        ...

    def mend(self) -> None:
        """Start every server and worker that a drill has left dead."""
        ...

    def delete_log(self) -> tuple[int, int]:
        """Delete what the killed log server has on disk; return how many bytes that were, and how many are left."""
        ...

    def delete_lake(self) -> int:
        """Drop the lake's catalog database, make an empty one, delete the files; return how many of both are left."""
        ...

    def run(self, arguments: Sequence[str]) -> Ran:
        """Run a `tieout` command, as a person would."""
        ...

    def status(self) -> Mapping[str, Any]:
        """Return what `tieout status --json` says."""
        ...

    def build(self) -> Mapping[str, int]:
        """Build the warehouse incrementally; return the cuts at which it stands."""
        ...

    def context(self, *, lag_seconds_max: float) -> ReconcileContext:
        """Return the context of a comparison that waits this long for a copy."""
        ...

    def projection(self, name: str) -> Projection:
        """Return the projection of that name."""
        ...

    def clean(self, text: str) -> str:
        """Return a text without the system's passwords, as one line."""
        ...

    def log_tails(self) -> dict[str, str]:
        """Return the last lines of every worker's log."""
        ...
