"""The warehouse's lag: what the lake has and no complete build has yet, and what the newest build leaves out.

Belongs here: this observation, for status, freshness and drills. Does not belong here: what lag is allowed
(`contracts/ownership.py`), how far the lake itself is behind (`streams/lag.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from contracts.clock import Clock
from contracts.errors import WarehouseError
from contracts.settings import Settings
from derived.builds import latest_build
from derived.defective import Omission
from derived.lake_connection import open_lake, scrub
from derived.lake_reads import cut_vector
from derived.lake_schema import EVENTS
from derived.leaving_out import left_out
from streams.clocks import database_clock


@dataclass(frozen=True, kw_only=True)
class WarehouseLag:
    """The newest complete build compared with the lake, for one pod."""

    pod: str
    built_cut: int
    """0 if nothing was built."""
    lake_cut: int
    lag_events: int
    lag_seconds: float
    """Age of the oldest event that is in the lake and in no complete build; 0.0 if there is none."""


def observe_warehouse(settings: Settings, *, clock: Clock | None = None) -> list[WarehouseLag]:
    """Return the warehouse's lag per pod; WarehouseError if the lake cannot be read.

    Ages are measured with each pod's own clock, unless another is given. The cost grows with the lag: the highest cut
    in a file's statistics shows whether it can hold newer events.
    """
    try:
        with open_lake(settings, read_only=True) as connection:
            build = latest_build(connection)
            lake_cuts = cut_vector(connection)
            return [
                _observed(
                    connection,
                    pod.pod,
                    build.cuts.get(pod.pod, 0) if build else 0,
                    lake_cuts,
                    clock or database_clock(pod.reader_dsn),
                )
                for pod in settings.pods
            ]
    except duckdb.Error as error:
        raise WarehouseError(f"The warehouse could not be asked: {scrub(error, settings.catalog_dsn)}") from None


def left_out_now(settings: Settings) -> list[Omission]:
    """Return what the newest complete build leaves out; WarehouseError if the lake cannot be read."""
    try:
        with open_lake(settings, read_only=True) as connection:
            build = latest_build(connection)
            return left_out(connection, build.cuts) if build else []
    except duckdb.Error as error:
        raise WarehouseError(f"The warehouse could not be asked: {scrub(error, settings.catalog_dsn)}") from None


def _observed(
    connection: duckdb.DuckDBPyConnection, pod: str, built_cut: int, lake_cuts: dict[str, int], clock: Clock
) -> WarehouseLag:
    rows = connection.execute(
        f"select count(*), min(recorded_at) from {EVENTS} where pod = ? and cut > ?", [pod, built_cut]
    ).fetchall()
    events, oldest = rows[0]
    return WarehouseLag(
        pod=pod,
        built_cut=built_cut,
        lake_cut=lake_cuts.get(pod, 0),
        lag_events=int(events),
        lag_seconds=max(0.0, (clock() - oldest).total_seconds()) if oldest else 0.0,
    )
