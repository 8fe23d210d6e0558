"""Builds what a comparison needs of the running system, because `reconcile/` opens no connections.

Belongs here: connections, cuts and the log for `reconcile/`. Does not belong here: what is compared and how.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import psycopg

from contracts.clock import utc_now
from contracts.errors import LogGapError, LogUnavailableError, UnprovenBuildError, WarehouseError
from contracts.ownership import absent_copies
from contracts.settings import Settings
from contracts.verdicts import DIFFERENCES_KEPT
from reconcile.compare import Limits
from reconcile.context import LoggedEntry, ReconcileContext
from reconcile.oltp_side import OpenCut
from repair.ledger import next_moment, unended_keys
from stack.scrubbing import scrubber

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from reconcile.cached_answers import HeldAnswers
    from reconcile.cart_comparison import CartStore
    from streams.log import EntryId, EventLog, Manifest

REGISTERED_BY = "tieout reconcile"
MANIFESTS_READ = 500
WHOLE_ORDERS_MAX = 20_000
"""Up to this number of orders, a comparison spends most of its time on opening stores (`bench/compare_changes.py`)."""

Build = Callable[[Mapping[str, int]], Mapping[str, int]]
"""Takes cuts by pod, builds, and returns the warehouse's cuts afterwards."""


def build_reconcile_context(
    settings: Settings, *, build: Build | None = None, lag_seconds_max: float | None = None
) -> ReconcileContext:
    """Return the context of a run of comparisons; `build` brings the warehouse to given cuts (by default with dbt)."""
    lakes = _Lakes(settings=settings)
    return ReconcileContext(
        pods={pod.pod: pod.reader_dsn for pod in settings.pods},
        take_cut=lambda pod: _take_cut(settings, pod, lakes.opened),
        open_lake=lakes.open,
        lake_cut=_lake_cut,
        build=build or (lambda cuts: _build(settings, cuts)),
        read_models_dsn=settings.read_models_dsn,
        control_dsn=settings.control_dsn,
        search_index=lambda pod: _search_index(settings, pod),
        carts=lambda pod: _carts(settings, pod),
        answers=lambda pod: _answers(settings, pod),
        absent=absent_copies(settings),
        read_log=lambda pod, cut: _read_log(settings, pod, cut),
        log_cut=lambda pod: _log_cut(settings, pod),
        next_logged_cut=lambda pod, after: _next_logged_cut(settings, pod, after),
        scrub=scrubber(settings),
        now=utc_now,
        monotonic=time.monotonic,
        sleep=time.sleep,
        lag_seconds_max=lag_seconds_max,
        unended=lambda pair, pod, entity: unended_keys(settings.control_dsn, pair, pod, entity),
        next_moment=lambda: next_moment(settings.control_dsn),
        whole_orders_max=WHOLE_ORDERS_MAX,
        memory_limit_mb=settings.comparison_memory_mb,
        disk_limit_mb=settings.scratch_disk_mb,
        scratch_folder=settings.scratch_dir,
        limits=Limits(sample=DIFFERENCES_KEPT),
    )


@dataclass(kw_only=True)
class _Lakes:
    """Opens the lake for a run, which asks it more than once."""

    settings: Settings
    newest: duckdb.DuckDBPyConnection | None = None

    def open(self) -> duckdb.DuckDBPyConnection:
        """Return a new connection; the run closes it."""
        self.newest = _open_lake(self.settings)
        return self.newest

    @property
    def opened(self) -> duckdb.DuckDBPyConnection | None:
        """The connection of the run, while it is open."""
        import duckdb

        try:
            return self.newest.execute("select 1") if self.newest is not None else None
        except duckdb.ConnectionException:  # the run has ended
            return None


def _take_cut(
    settings: Settings, pod: str, lake: duckdb.DuckDBPyConnection | None = None
) -> AbstractContextManager[OpenCut]:
    from streams.cuts import cut_shape, take_reconciler_cut

    # After a database was set back, the comparison would find the lost facts as differences, and the repair would
    # remove them from the copies.
    _check_same_history(settings, pod, lake)
    return take_reconciler_cut(settings.pod(pod).reader_dsn, cut_shape(settings), registered_by=REGISTERED_BY)


def _check_same_history(settings: Settings, pod: str, lake: duckdb.DuckDBPyConnection | None) -> None:
    """Raise LogDivergedError when the database is not the one whose cuts were published.

    We ignore a log or a copy that does not answer: the step that needs it reports that error.
    """
    from derived.known_cuts import cut_sources_of
    from streams.history import check_same_history

    manifest = _last_manifest(settings, pod)
    with psycopg.connect(settings.pod(pod).reader_dsn, autocommit=True) as reader:
        check_same_history(reader, manifest, pod, cut_sources_of(settings, lake))


def _last_manifest(settings: Settings, pod: str) -> Manifest | None:
    """Return the log's last manifest of a pod; None when the log has none or does not answer."""
    from streams.logs import build_log

    with suppress(LogUnavailableError), closing(build_log(settings)) as log:
        return log.tail(pod, 1).manifest
    return None


def _open_lake(settings: Settings) -> duckdb.DuckDBPyConnection:
    from derived.lake_connection import open_lake

    return open_lake(settings, read_only=True)


def _search_index(settings: Settings, pod: str) -> Path | None:
    from derived.search.folders import PodFolder, base_folder

    return PodFolder(base_folder(settings), pod).read_from()


def _carts(settings: Settings, pod: str) -> AbstractContextManager[CartStore]:
    from stack.composition.carts import cart_store

    return cart_store(settings, pod)


def _answers(settings: Settings, pod: str) -> AbstractContextManager[HeldAnswers]:
    from stack.composition.answers import held_answers

    return held_answers(settings, pod)


def _lake_cut(connection: duckdb.DuckDBPyConnection, pod: str) -> int:
    from derived.lake_reads import lake_positions

    return min((position.cut for position in lake_positions(connection, pod).values()), default=0)


def _build(settings: Settings, cuts: Mapping[str, int]) -> Mapping[str, int]:
    from derived.builds import latest_build
    from derived.lake_connection import lake_place
    from derived.lake_files import lost_tables
    from derived.warehouse import build_warehouse

    with _open_lake(settings) as connection:
        latest = latest_build(connection)
    is_there = latest is not None and all(latest.cuts.get(pod, 0) >= cut for pod, cut in cuts.items())
    if latest is not None and is_there and not lost_tables(lake_place(settings)):
        return latest.cuts
    result = build_warehouse(settings)
    if not result.is_complete:
        failed = "; ".join(node.named for node in result.test_failures[:5]) or "a model was skipped"
        message = f"The warehouse build {result.build_id} is not complete ({failed})."
        raise UnprovenBuildError(message, result.cuts) if result.is_built else WarehouseError(message)
    return result.cuts


def _log_cut(settings: Settings, pod: str) -> int:
    from streams.logs import build_log

    with closing(build_log(settings)) as log:
        return log.tail(pod, settings.partition_count).own_cut


def _next_logged_cut(settings: Settings, pod: str, after: int) -> int | None:
    from streams.logs import build_log

    with closing(build_log(settings)) as log:
        return next((manifest.cut for manifest in log.manifests(pod, after, limit=1)), None)


@contextmanager
def _read_log(settings: Settings, pod: str, until_cut: int) -> Iterator[Iterator[LoggedEntry]]:
    from streams.logs import build_log

    log = build_log(settings)
    try:
        yield _logged_entries(log, pod, until_cut)
    finally:
        log.close()


def _logged_entries(log: EventLog, pod: str, until_cut: int) -> Iterator[LoggedEntry]:
    from streams.log import EntryId

    for manifest in _kept_manifests(log, pod, until_cut):
        for partition, chunks in enumerate(manifest.partitions):
            for number, chunk in enumerate(chunks):
                at = EntryId(generation=manifest.generation, partition=partition, cut=manifest.cut, chunk=number)
                yield LoggedEntry(
                    cut=manifest.cut,
                    partition=partition,
                    chunk=number,
                    epoch=manifest.epoch,
                    stated_events=chunk.events,
                    stated_checksum=chunk.checksum,
                    fetch=partial(_fetch, log, pod, at),
                    is_trimmed=partial(_is_trimmed, log, pod, manifest.cut),
                )


def _kept_manifests(log: EventLog, pod: str, until_cut: int) -> list[Manifest]:
    """Return the manifests up to a cut, without those that were trimmed while we read the pages."""
    found: list[Manifest] = []
    while page := log.manifests(pod, found[-1].cut if found else 0, limit=MANIFESTS_READ):
        found += page
        if page[-1].cut >= until_cut:
            break
    from streams.log import first_kept_cut

    first = first_kept_cut(log, pod)
    return [manifest for manifest in found if first <= manifest.cut <= until_cut]


def _is_trimmed(log: EventLog, pod: str, cut: int) -> bool:
    from streams.log import first_kept_cut

    return first_kept_cut(log, pod) > cut


def _fetch(log: EventLog, pod: str, at: EntryId) -> pa.Table | None:
    from streams import codec

    try:
        (data,) = log.fetch(pod, [at])
    except LogGapError:
        return None
    return codec.decode(data)
