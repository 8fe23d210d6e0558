"""What the caller gives to a comparison: cuts, connections, clocks. A comparison opens no connection to them itself.

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
from reconcile.cached_answers import HeldAnswers
from reconcile.cart_comparison import CartStore
from reconcile.compare import Limits
from reconcile.oltp_side import OpenCut
from reconcile.scratch import DISK_LIMIT_MB, MEMORY_LIMIT_MB


@dataclass(frozen=True, kw_only=True)
class LoggedEntry:
    """One entry of the log: what its manifest states, and a function that reads its present content."""

    cut: int
    partition: int
    chunk: int
    epoch: str
    stated_events: int
    stated_checksum: str
    fetch: Callable[[], pa.Table | None]
    """Reads the decoded entry: the envelope's columns from `position` on, in order; None when it is not in the log.
    Raises ManifestMismatchError when the stored bytes are not an entry.
    """
    is_trimmed: Callable[[], bool] = lambda: False
    """Whether the log was trimmed past the entry after it was listed; then the entry does not count as missing."""


@dataclass(frozen=True, kw_only=True)
class ReconcileContext:
    """Everything that a run of comparisons needs."""

    pods: Mapping[str, str]
    """Pod name -> DSN of a role that may read all tables of the pod."""
    take_cut: Callable[[str], AbstractContextManager[OpenCut]]
    """Pod name -> context manager of a new cut of the pod; the cut's snapshot is open inside the context."""
    open_lake: Callable[[], duckdb.DuckDBPyConnection]
    """Returns a new DuckDB connection with the lake attached as `lake`; the run closes it."""
    lake_cut: Callable[[duckdb.DuckDBPyConnection, str], int]
    """(Connection to the lake, pod name) -> the highest cut of the pod that the lake has completely."""
    build: Callable[[Mapping[str, int]], Mapping[str, int]] | None = None
    """Pod -> wanted cut; builds the warehouse and returns pod -> its cut afterwards. With a lower cut it is late."""
    read_models_dsn: str | None = None
    control_dsn: str | None = None
    """The control database, with the notes of what merchants are told."""
    search_index: Callable[[str], Path | None] | None = None
    """Pod name -> folder of its current search index; None: there is none yet."""
    read_log: Callable[[str, int], AbstractContextManager[Iterable[LoggedEntry]]] | None = None
    """(Pod name, cut) -> every entry that kept manifests up to that cut name; `fetch` works inside the context."""
    log_cut: Callable[[str], int] | None = None
    """Pod name -> the newest cut in the log."""
    next_logged_cut: Callable[[str, int], int | None] | None = None
    """(Pod name, cut) -> the first later cut with a manifest in the log; None: there is no later manifest."""
    carts: Callable[[str], AbstractContextManager[CartStore]] | None = None
    """Pod name -> both sides of its carts."""
    answers: Callable[[str], AbstractContextManager[HeldAnswers]] | None = None
    """Pod name -> what the cache holds of it."""
    absent: frozenset[str] = frozenset()
    """Names of the copies that this system does not have; their pairs are left out."""
    scrub: Callable[[str], str]
    """Removes secrets from another program's message, because a reason must not contain a password."""
    now: Clock
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    unended: Callable[[str, str, str], Iterable[tuple[str | None, ...]]] = lambda pair, pod, entity: ()
    """(Pair, pod, entity) -> the keys with unended breaks; what a complete run reads in part has at least these."""
    next_moment: Callable[[], int | None] = lambda: None
    """Returns the next number of the ledger's counter. It orders results by what they have seen, without clocks."""
    lag_seconds_max: float | None = None
    """Wait at most this long for a copy, even when the contract allows more (for tests and callers in a hurry)."""
    whole_orders_max: int = 0
    """A pod with at most this many orders is always compared completely: an incremental run saves nothing there."""
    memory_limit_mb: int = MEMORY_LIMIT_MB
    disk_limit_mb: int = DISK_LIMIT_MB
    scratch_folder: Path | None = None
    limits: Limits = field(default_factory=Limits)


def wait_for(context: ReconcileContext, has_arrived: Callable[[], bool], allowed_seconds: float) -> bool:
    """Poll until `has_arrived` returns true or `allowed_seconds` have passed; return whether it has arrived."""
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
