"""What a comparison is given by its caller: cuts, connections, waiting. It opens none of these by itself.

Belongs here: the values and callables that `checks/` and `stack/` pass in. Does not belong here: building them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from contracts.clock import Clock
from reconcile.compare import Limits
from reconcile.oltp import OpenCut
from reconcile.scratch import DISK_LIMIT_MB, MEMORY_LIMIT_MB


@dataclass(frozen=True, kw_only=True)
class LoggedEntry:
    """One entry of the log as its manifest states it, and what is really there."""

    cut: int
    partition: int
    chunk: int
    epoch: str
    stated_events: int
    stated_checksum: str
    fetch: Callable[[], pa.Table | None]
    """Reads the decoded entry: the envelope's columns from `position` on, in order; None when it is not in the log.

    Raises ManifestMismatchError when what is there is no entry.
    """
    is_trimmed: Callable[[], bool] = lambda: False
    """Whether the log was trimmed beyond the entry after it was listed; then it is not missing."""


@dataclass(frozen=True, kw_only=True)
class ReconcileContext:
    """Everything that a run of comparisons needs."""

    pods: Mapping[str, str]
    """Pod name -> DSN of a role that may read all tables of the pod."""
    take_cut: Callable[[str], AbstractContextManager[OpenCut]]
    """Pod name -> a cut of it, whose snapshot is open as long as the context is."""
    open_lake: Callable[[], duckdb.DuckDBPyConnection]
    """Returns a DuckDB connection of its own, with the lake attached as `lake`; closed by the run."""
    lake_cut: Callable[[duckdb.DuckDBPyConnection, str], int]
    """A connection to the lake, pod name -> the highest cut of the pod that the lake has completely."""
    build: Callable[[Mapping[str, int]], Mapping[str, int]] | None = None
    """Cuts by pod -> the cuts at which the warehouse stands afterwards (>= those asked for, or it is late)."""
    read_models_dsn: str | None = None
    read_log: Callable[[str, int], AbstractContextManager[Iterable[LoggedEntry]]] | None = None
    """Pod name, cut -> every entry that the kept manifests up to that cut name; `fetch` works inside the context."""
    log_cut: Callable[[str], int] | None = None
    """Pod name -> the newest cut that the log has."""
    next_logged_cut: Callable[[str, int], int | None] | None = None
    """Pod name, cut -> the first later cut of which the log has a manifest; None: it has none."""
    scrub: Callable[[str], str]
    """Takes the secrets out of another program's message: no reason may hold a password."""
    now: Clock
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    next_moment: Callable[[], int | None] = lambda: None
    """Gives the next number of the ledger's counter: it orders what results have seen, whatever the clocks say."""
    lag_seconds_max: float | None = None
    """Waits at most this long for a copy, instead of what the contract allows (for tests and impatient callers)."""
    whole_orders_max: int = 0
    """A pod with no more orders than this is always compared completely: leaving out saves nothing there."""
    memory_limit_mb: int = MEMORY_LIMIT_MB
    disk_limit_mb: int = DISK_LIMIT_MB
    scratch_folder: Path | None = None
    limits: Limits = field(default_factory=Limits)


def wait_for(context: ReconcileContext, has_arrived: Callable[[], bool], allowed_seconds: float) -> bool:
    """Poll until `has_arrived` or the allowed lag is over; return which."""
    if context.lag_seconds_max is not None:
        allowed_seconds = min(allowed_seconds, context.lag_seconds_max)
    deadline = context.monotonic() + allowed_seconds
    pause = 0.02
    while not has_arrived():
        if context.monotonic() >= deadline:
            return False
        context.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    return True
