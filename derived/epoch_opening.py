"""Opening a new epoch of a pod: its database is authoritative from now on; every copy goes back to the last common cut.

Belongs here: the plan, and the order of the steps. Does not belong here: a single step (`streams/epochs.py`,
`derived/lake_epochs.py`, `derived/backup_epochs.py`, the views' `take_back`), what is printed (`cli/commands/`).

The record in the pod is written first and completed last; between the two nothing is published. Every step finds out
itself what is left to do, so a second call finishes an opening that was interrupted anywhere. The log is taken back
before its readers, so that no reader applies retracted events again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import duckdb
import psycopg

from contracts.clock import Clock, utc_now
from contracts.errors import PropagationError
from contracts.settings import PodSettings, Settings
from derived.backup_epochs import backed_up_after, backed_up_cuts, retract_backup
from derived.keyed.projection import KeyedProjection
from derived.lake_backup import verified_cuts
from derived.lake_connection import bounds_of, open_lake
from derived.lake_epochs import events_after, recorded_cuts, retract_lake
from derived.lake_reads import lake_positions
from streams import epochs
from streams.cuts import Cut, last_cut
from streams.log import EventLog
from streams.projection import EpochOpening, Position

StepHook = Callable[[str], None]
"""Called with the name of each step before the step runs; tests raise from it."""


@dataclass(frozen=True, kw_only=True)
class CopyPlan:
    """One copy, and how much of it is retracted."""

    copy: str
    stands_at_cut: int
    """The last cut of which the copy has any event."""
    events: int | None
    """Number of events after the base; None for a view, because it is rebuilt from the lake."""


@dataclass(frozen=True, kw_only=True)
class EpochPlan:
    """What opening an epoch would do."""

    pod: str
    is_needed: bool
    """Whether the database and the copies do not continue each other as they are."""
    base: Cut | None
    """The last cut that is identical in the database and the copies; None: there is none."""
    forgotten_cuts: int
    """Number of cuts that the database registered after the base; their events are published again in the new epoch."""
    copies: tuple[CopyPlan, ...]

    @property
    def base_cut(self) -> int:
        """The number of the base cut; 0 if there is none."""
        return self.base.cut if self.base else 0

    @property
    def is_from_nothing(self) -> bool:
        """Whether everything that the copies have of the pod would be retracted."""
        return self.base is None and any(copy.stands_at_cut for copy in self.copies)


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The result; `epoch` is None if no new epoch was needed, or if only the plan was requested."""

    plan: EpochPlan
    epoch: str | None


@dataclass(frozen=True, kw_only=True)
class EpochOpener:
    """Opens the new epoch of one pod."""

    pod: PodSettings
    settings: Settings
    log: EventLog
    views: Sequence[KeyedProjection]
    opened_by: str
    step: StepHook = lambda name: None
    clock: Clock = utc_now

    def plan(self) -> EpochPlan:
        """Return what `open` would do; changes nothing. Raises RelayBusyError while the pod's relay runs."""
        with self._session() as session:
            return session.plan()

    def open(self, *, is_from_nothing_allowed: bool = False) -> Opened:
        """Take every copy back to the last common cut, and let the pod's database continue from there.

        Raises PropagationError if there is no common cut (unless that is allowed), or if the outbox does not have the
        events after it; RelayBusyError while the pod's relay runs. A second call finishes an interrupted one.
        """
        with self._session() as session:
            plan = session.plan()
            if not plan.is_needed:
                return Opened(plan=plan, epoch=None)
            if plan.is_from_nothing and not is_from_nothing_allowed:
                raise PropagationError(
                    f"The database of pod {self.pod.pod} and its copies have no cut in common. If it is the right "
                    "database all the same, `--from-nothing` takes everything of the pod back from the copies."
                )
            return Opened(plan=plan, epoch=session.open(plan))

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        with epochs.holding_pod(self.pod) as connection:
            yield _Session(opener=self, connection=connection)


@dataclass(frozen=True, kw_only=True)
class _Session:
    """One use of the opener while it holds the pod's relay lock."""

    opener: EpochOpener
    connection: psycopg.Connection[Any]

    @property
    def pod(self) -> str:
        return self.opener.pod.pod

    def plan(self) -> EpochPlan:
        with self._lake() as lake:
            places = self._places(lake)
            newest = last_cut(self.connection)
            common = epochs.common_cut(self.connection, self._sources(lake))
            base = self._base(common, newest, is_anything_copied=any(places.values()))
            number, database_cut = base.cut if base else 0, newest.cut if newest else 0
            is_ahead = max(places.values()) > database_cut
            return EpochPlan(
                pod=self.pod,
                is_needed=is_ahead or common.first_other is not None or not epochs.continues(self.connection),
                base=base,
                forgotten_cuts=epochs.cuts_after(self.connection, number),
                copies=self._copies(lake, places, number),
            )

    def _base(self, common: epochs.Common, newest: Cut | None, *, is_anything_copied: bool) -> Cut | None:
        begun = self._begun()
        if begun is not None:
            return epochs.cut_numbered(self.connection, begun.base_cut)
        # If nothing was published, no copy can differ from the database.
        return common.cut if is_anything_copied else newest

    def _begun(self) -> epochs.OpenedEpoch | None:
        """Return the opening of this database that was begun and not completed; None if there is none."""
        last = epochs.last_opening(self.connection)
        if last is None or last.completed_at is not None or not last.is_of_this_database:
            return None
        base = epochs.cut_numbered(self.connection, last.base_cut)
        return last if last.base_cut == 0 or (base is not None and base.epoch == last.base_epoch) else None

    def _sources(self, lake: duckdb.DuckDBPyConnection) -> list[epochs.Source]:
        folder = self.opener.settings.lake_backup_path
        return [
            partial(epochs.logged_cuts, self.opener.log, self.pod),
            partial(recorded_cuts, lake, self.pod),
            partial(backed_up_cuts, folder, self.pod),
        ]

    def _places(self, lake: duckdb.DuckDBPyConnection) -> dict[str, int]:
        """Return copy -> the last cut of which it has any event."""
        opener = self.opener
        return {
            "log": epochs.logged_until(opener.log, self.pod, self._partition_count()),
            "lake": _furthest(lake_positions(lake, self.pod)),
            **{view.name: _furthest(view.state(self.pod).positions) for view in opener.views},
            "backup": verified_cuts(opener.settings.lake_backup_path).get(self.pod, 0),
        }

    def _copies(self, lake: duckdb.DuckDBPyConnection, places: Mapping[str, int], base: int) -> tuple[CopyPlan, ...]:
        counts = {
            "log": lambda: epochs.logged_after(self.opener.log, self.pod, base),
            "lake": lambda: events_after(lake, self.pod, base),
            "backup": lambda: backed_up_after(
                self.opener.settings.lake_backup_path, self.pod, base, bounds=bounds_of(self.opener.settings)
            ),
        }
        return tuple(
            CopyPlan(copy=name, stands_at_cut=place, events=counts[name]() if name in counts else None)
            for name, place in places.items()
        )

    def _partition_count(self) -> int:
        newest = last_cut(self.connection)
        kept = self.opener.log.tail(self.pod, 1).manifest
        counts = [newest.partition_count if newest else 1, len(kept.partitions) if kept else 1]
        return max(self.opener.settings.partition_count, *counts)

    def open(self, plan: EpochPlan) -> str:
        opener, pod, base = self.opener, self.pod, plan.base
        epochs.check_continuable(self.connection, pod, base)
        opener.step("record")
        record = self._begun() or epochs.record_opening(self.connection, base, opener.opened_by)
        opening = record.opening()
        opener.step("log")
        epochs.retract_log(opener.log, pod, opening.base_cut, self._partition_count())
        self._take_back_copies(opening, base)
        # The lake has the retracted events now, so the log can delete them.
        opener.log.forget_retracted(pod)
        opener.step("complete")
        epochs.complete_opening(self.connection, opening)
        return opening.epoch

    def _take_back_copies(self, opening: EpochOpening, base: Cut | None) -> None:
        opener, pod = self.opener, self.pod
        base_at = base.registered_at if base else None
        opener.step("lake")
        logged = partial(epochs.retracted_events, opener.log, pod)
        retract_lake(opener.settings, pod, opening, base_at=base_at, logged=logged, clock=opener.clock)
        for view in opener.views:
            opener.step(view.name)
            view.take_back(pod, opening, base_at=base_at)
        opener.step("backup")
        retract_backup(opener.settings, pod, opening)

    @contextmanager
    def _lake(self) -> Iterator[duckdb.DuckDBPyConnection]:
        settings = self.opener.settings
        with open_lake(settings, read_only=True) as connection:
            yield connection


def _furthest(positions: Mapping[int, Position]) -> int:
    """Return the last cut of which the positions include any event; 0 if there is none."""
    return max((place.cut + (1 if place.chunk else 0) for place in positions.values()), default=0)
