"""How far the warehouse is behind the lake: the age of the oldest event that the newest complete build does not have.

Belongs here: that question. Does not belong here: how far the lake is behind the log (`streams/lag.py`), what lag is
allowed (`contracts/ownership.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.clock import Clock, utc_now
from contracts.settings import Settings
from derived.builds import latest_build
from derived.lake_connection import connect_lake
from derived.lake_reads import lake_positions
from derived.lake_schema import EVENTS


@dataclass(frozen=True, kw_only=True)
class BuildLag:
    """What the marts have of one pod, against what the lake has."""

    pod: str
    built_cut: int
    """At which the newest complete build stands; 0: nothing was built."""
    lake_cut: int
    lag_events: int
    lag_seconds: float
    """Age of the oldest event that is in the lake and not in the marts; 0.0 when there is none."""


def build_lags(settings: Settings, pods: Sequence[str], *, clock: Clock = utc_now) -> list[BuildLag]:
    """Return how far the marts are behind the lake, per pod. Cost follows what is not built, not the history."""
    with connect_lake(settings.catalog_dsn, settings.lake_data_path, read_only=True) as connection:
        build = latest_build(connection)
        found = []
        for pod in pods:
            built = build.cuts.get(pod, 0) if build else 0
            rows = connection.execute(
                f"select count(*), min(recorded_at) from {EVENTS} where pod = ? and cut > ?", [pod, built]
            ).fetchall()
            events, oldest = rows[0]
            found.append(
                BuildLag(
                    pod=pod,
                    built_cut=built,
                    lake_cut=min((position.cut for position in lake_positions(connection, pod).values()), default=0),
                    lag_events=events,
                    lag_seconds=max(0.0, (clock() - oldest).total_seconds()) if oldest else 0.0,
                )
            )
    return found
