"""The loop with which every projection follows the log.

Belongs here: waiting for manifests, fetching and verifying exactly the entries that they name, grouping them into
atomic steps, and continuing after a fence, a poison event or a lost server. Does not belong here: what a projection
does with events.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from contracts.clock import Clock, utc_now
from contracts.errors import LogGapError, ManifestMismatchError, PropagationError
from contracts.ownership import STEP_EVENTS_MAX
from contracts.settings import Settings
from contracts.text import counted
from streams import codec
from streams.log import EventLog, Manifest, Progress, entry_place
from streams.logs import build_log
from streams.parking import apply_parking
from streams.projection import Entry, FencedError, Projection, ProjectionState, Recoverable, Work
from streams.step_planning import (
    PlannedEntry,
    Step,
    check_contiguous,
    completed_state,
    floor_cut,
    of_one_epoch,
    plan_step,
)

logger = logging.getLogger("tieout.consumer")

BLOCK_MILLISECONDS = 500
MANIFESTS_READ = 1_000
PROGRESS_SECONDS = 1.0
BYTES_MAX = 16 << 20
"""Largest size of the decoded events of one step; an entry is always applied whole."""
BYTES_PER_EVENT = 8 << 10
"""Expected size of an event before the first step; later we use the average of the last step."""
RETRY_SECONDS = 2.0
STOPPED_RETRY_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class ConsumeResult:
    """What one drain applied."""

    pod: str
    applied_cut: int
    """Every partition has applied all cuts up to this one."""
    steps: int
    events: int
    """Events of the applied entries, parked ones included."""
    parked: int
    """Number of aggregates that have parked events now."""


def run_consumer(
    projection: Projection,
    pod: str,
    settings: Settings,
    stop: threading.Event,
    *,
    group_window_seconds: float = 0.0,
    events_max: int = STEP_EVENTS_MAX,
) -> None:
    """Run a consumer of `pod` for `projection` until `stop` is set; a worker process calls this."""
    log = build_log(settings)
    try:
        consumer = Consumer(projection, pod, log, group_window_seconds=group_window_seconds, events_max=events_max)
        consumer.run(stop)
    finally:
        log.close()


class Consumer:
    """Applies one pod's log to one projection.

    `group_window_seconds` is the least time between two commits while events arrive: about 1 for a store with slow
    commits, 0 for the others. `events_max` limits the events of a step, `bytes_max` their size in memory.
    """

    def __init__(
        self,
        projection: Projection,
        pod: str,
        log: EventLog,
        *,
        group_window_seconds: float = 0.0,
        events_max: int = STEP_EVENTS_MAX,
        bytes_max: int = BYTES_MAX,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._projection = projection
        self._pod = pod
        self._log = log
        self._window_seconds = group_window_seconds
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._bytes_per_event = float(BYTES_PER_EVENT)
        self._clock = clock
        self._monotonic = monotonic
        self._state = ProjectionState(epoch=None, positions={})
        self._stopped: dict[int, PropagationError] = {}
        """Partitions with an unreadable entry, and its error. They stop; the other partitions continue."""
        self._loaded_at = float("-inf")
        self._reported_at = float("-inf")
        self._committed_at = float("-inf")

    def drain(self, until_cut: int | None = None) -> ConsumeResult:
        """Apply everything that is in the log now, or up to `until_cut`, and return the projection's progress.

        Raises LogGapError, ManifestMismatchError or EpochChangedError when something cannot be applied; everything else
        is applied before.
        """
        last = self._log.tail(self._pod, 1).manifest_cut
        until = last if until_cut is None else min(last, until_cut)
        self._load()
        steps = events = 0
        while (step := self._next(self._manifests(until))) is not None:
            events += self._apply(step)
            steps += 1
        self._report()
        if self._stopped:
            raise next(iter(self._stopped.values()))
        return ConsumeResult(
            pod=self._pod,
            applied_cut=floor_cut(self._state.positions),
            steps=steps,
            events=events,
            parked=len(self._state.parked_keys),
        )

    def run(self, stop: threading.Event) -> None:
        """Follow the log until `stop` is set. When the store or the log fails, retry; no event is lost."""
        while not stop.is_set():
            try:
                self._load()
                self._follow(stop)
            except Exception as error:  # any error of a store: the position did not move, so a retry is safe
                logger.warning("%s of %s stands still: %s", self._projection.name, self._pod, error)
                stop.wait(RETRY_SECONDS)

    def _follow(self, stop: threading.Event) -> None:
        while not stop.is_set():
            manifests = self._manifests(None, block_milliseconds=BLOCK_MILLISECONDS)
            wait = self._window_seconds - (self._monotonic() - self._committed_at)
            if manifests and wait > 0:
                stop.wait(wait)
                manifests = self._manifests(None)
            step = self._next(manifests)
            if step is not None:
                self._apply(step)
                self._committed_at = self._monotonic()
            elif manifests:  # all remaining entries belong to stopped partitions
                stop.wait(BLOCK_MILLISECONDS / 1_000)
            # Also reload when idle: a repair or an operator may have moved the position.
            if (self._stopped or not manifests) and self._monotonic() - self._loaded_at >= STOPPED_RETRY_SECONDS:
                self._load()
            if self._monotonic() - self._reported_at >= PROGRESS_SECONDS:
                self._report()

    def _load(self) -> None:
        self._state = completed_state(self._projection, self._pod, self._log)
        self._stopped = {}
        self._loaded_at = self._monotonic()
        self._report()

    def _report(self) -> None:
        applied = floor_cut(self._state.positions)
        progress = Progress(projection=self._projection.name, applied_cut=applied, reported_at=self._clock())
        self._log.report_progress(self._pod, progress)
        self._reported_at = self._monotonic()

    def _manifests(self, until_cut: int | None, *, block_milliseconds: int = 0) -> list[Manifest]:
        after = floor_cut(self._state.positions, self._stopped)
        found = self._log.manifests(self._pod, after, limit=MANIFESTS_READ, block_milliseconds=block_milliseconds)
        try:
            check_contiguous(after, found, self._pod)
        except LogGapError as error:
            raise LogGapError(f"{error}{self._recovery(after)}") from None
        return [manifest for manifest in found if until_cut is None or manifest.cut <= until_cut]

    def _recovery(self, applied_cut: int) -> str:
        if not isinstance(self._projection, Recoverable):
            return ""
        return f" For {self._projection.name} run: {self._projection.recovery_command(self._pod, applied_cut)}"

    def _next(self, manifests: list[Manifest]) -> Step | None:
        follower = f"{self._projection.name} of pod {self._pod}"
        found = of_one_epoch(manifests, self._state.epoch, self._state.positions, follower)
        events_max = max(1, min(self._events_max, int(self._bytes_max / self._bytes_per_event)))
        return plan_step(self._state.positions, found, stopped=self._stopped, events_max=events_max)

    def _apply(self, step: Step) -> int:
        """Apply one step; return its number of events, 0 when the step was not committed."""
        entries = self._entries(step)
        if entries is None:
            return 0
        if events := sum(entry.events.num_rows for entry in entries):
            self._bytes_per_event = max(1.0, sum(entry.events.nbytes for entry in entries) / events)
        work = Work(
            pod=self._pod,
            epoch=step.epoch,
            entries=entries,
            expected=step.expected,
            positions=step.positions,
            data_at=step.data_at,
            opening=step.opening,
        )
        try:
            parked = apply_parking(self._projection, work, self._state.parked_keys, self._clock)
        except FencedError as error:
            logger.info("%s", error)
            self._state = completed_state(self._projection, self._pod, self._log)
            return 0
        positions = {**self._state.positions, **step.positions}
        self._state = ProjectionState(epoch=step.epoch, positions=positions, parked_keys=parked)
        return sum(entry.stated.events for entry in step.entries)

    def _entries(self, step: Step) -> list[Entry] | None:
        """Return the step's entries, fetched and verified; None when one is unreadable. Then its partition stops."""
        try:
            data = self._log.fetch(self._pod, [entry.at for entry in step.entries])
        except LogGapError:
            self._stop_missing(step)
            return None
        entries = []
        for planned, stored in zip(step.entries, data, strict=True):
            try:
                events = self._verified(step.epoch, planned, stored)
            except ManifestMismatchError as error:
                self._stop(planned, error)
                return None
            at = planned.at
            entries.append(
                Entry(
                    pod=self._pod, epoch=step.epoch, partition=at.partition, cut=at.cut, chunk=at.chunk, events=events
                )
            )
        return entries

    def _stop_missing(self, step: Step) -> None:
        for planned in step.entries:
            try:
                self._log.fetch(self._pod, [planned.at])
            except LogGapError as error:
                self._stop(planned, error)

    def _stop(self, planned: PlannedEntry, error: PropagationError) -> None:
        logger.error("partition %s of %s stops: %s", planned.at.partition, self._pod, error)
        self._stopped[planned.at.partition] = error

    def _verified(self, epoch: str, planned: PlannedEntry, data: bytes) -> pa.Table:
        stored = codec.decode(data)
        at, stated = planned.at, planned.stated
        found = codec.checksum(stored, place=entry_place(self._pod, epoch, at))
        if stored.num_rows != stated.events or found != stated.checksum:
            raise ManifestMismatchError(
                f"Partition {at.partition}, cut {at.cut}, chunk {at.chunk} of pod {self._pod} holds "
                f"{counted(stored.num_rows, 'event')} with checksum {found[:12]}; its manifest "
                f"states {stated.events} with {stated.checksum[:12]}."
            )
        return codec.placed(stored, pod=self._pod, epoch=epoch, cut=at.cut, partition=at.partition)
