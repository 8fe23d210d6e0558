"""The cache's consumer of the log: of each event, it sets the floors of what the event touches.

Belongs here: floors and positions of one step, and beginning anew. Does not belong here: which event touches what
(`contracts/assembled.py`), the loop (`streams/consumer.py`).

Unlike other copies, this one has nothing to catch up on: an empty cache is right. So it begins at the end of the log
wherever another copy would have to be rebuilt: when its server has lost what it held, when the log no longer has its
next cut, when the pod's database has another history. Nothing is ever parked: what cannot be read touches all of its
merchant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from contracts.assembled import TouchingEvent, touched_by
from contracts.clock import Clock, utc_now
from contracts.errors import CacheUnavailableError
from contracts.ownership import ANSWER_CACHE
from contracts.settings import Settings
from derived.answer_cache.caches import cache_at
from derived.answer_cache.port import AnswerCache, Following, Touched
from streams.log import EventLog
from streams.logs import build_log
from streams.projection import Entry, FencedError, ParkedEvent, Position, ProjectionState, Work
from streams.step_planning import floor_cut

NAME = ANSWER_CACHE.name
APPLYING_SECONDS = 30.0
"""So long a step may take: it may touch thousands of tags."""
COLUMNS = ("merchant_id", "aggregate_type", "aggregate_id", "event_type", "schema_version", "payload")


class AnswerCacheProjection:
    """The cache as a projection of the log. Closes cache and log with itself."""

    name = NAME

    def __init__(
        self, cache: AnswerCache, log: EventLog, *, clock: Clock = utc_now, is_observed_only: bool = False
    ) -> None:
        self._cache = cache
        self._log = log
        self._clock = clock
        self._is_observed_only = is_observed_only

    def close(self) -> None:
        """Close the connections."""
        self._cache.close()
        self._log.close()

    def state(self, pod: str) -> ProjectionState:
        """Return what is applied of `pod`; begin anew at the end of the log where the cache cannot go on.

        Whoever only observes does not begin: CacheUnavailableError where there is no position.
        """
        following = self._cache.following(pod)
        if self._is_observed_only:
            if following is None:
                raise CacheUnavailableError(f"The cache has no position of {pod}, until its consumer begins anew.")
        elif following is None or not self._goes_on(pod, following):
            self._begin_at_end(pod)
            following = self._cache.following(pod)
        positions = dict(following.positions) if following is not None else {}
        return ProjectionState(epoch=following.epoch or None if following is not None else None, positions=positions)

    def _goes_on(self, pod: str, following: Following) -> bool:
        """Return whether the log has what comes after the positions, in the same history."""
        applied, end = floor_cut(following.positions), self._log.tail(pod, 1)
        if end.own_cut < applied or (end.manifest is not None and end.manifest.epoch != following.epoch):
            return False
        return end.own_cut == applied or [one.cut for one in self._log.manifests(pod, applied, limit=1)] == [
            applied + 1
        ]

    def _begin_at_end(self, pod: str) -> None:
        """Begin anew: an answer that is loaded from now on has all events of the log's last cut."""
        end = self._log.tail(pod, 1)
        count = len(end.manifest.partitions) if end.manifest is not None else 0
        positions = {partition: Position(cut=end.own_cut, chunk=0) for partition in range(count)}
        epoch = end.manifest.epoch if end.manifest is not None else ""
        data_at = end.manifest.registered_at if end.manifest is not None else self._clock()
        self._cache.begin(pod, epoch, end.own_cut, positions, data_at)

    def apply(self, work: Work) -> None:
        """Set the floors of what the step's events touch, and its positions, together. Raises FencedError."""
        floors: dict[str, int] = {}
        for entry in work.entries:
            for event in _events(entry):
                for tag in touched_by(event):
                    floors[tag] = max(floors.get(tag, 0), entry.cut)
        touched = Touched(
            epoch=work.epoch, expected=work.expected, positions=work.positions, data_at=work.data_at, floors=floors
        )
        if self._cache.invalidate(work.pod, touched):
            return
        following = self._cache.following(work.pod)
        if following is None or following.epoch == work.epoch:
            raise FencedError(f"Another consumer has moved {NAME} of {work.pod}, or its server has lost the position.")
        self._begin_epoch(work, following)

    def _begin_epoch(self, work: Work, following: Following) -> None:
        """Begin anew with the first step of another epoch; nothing that was read in the earlier one is good."""
        positions = {**following.positions, **work.positions}
        since = max([position.cut for position in work.positions.values()] + [entry.cut for entry in work.entries])
        self._cache.begin(work.pod, work.epoch, since, positions, work.data_at)

    def parked_events(self, pod: str, keys: Collection[str] | None = None) -> Sequence[ParkedEvent]:
        """Return nothing, because nothing is ever parked."""
        return ()


def _events(entry: Entry) -> Iterator[TouchingEvent]:
    columns = {name: entry.events.column(name).to_pylist() for name in COLUMNS}
    for values in zip(*columns.values(), strict=True):
        yield TouchingEvent(**dict(zip(COLUMNS, values, strict=True)))


def build(settings: Settings, *, is_observed_only: bool = False) -> AnswerCacheProjection:
    """Return the cache of these settings as a projection."""
    cache = cache_at(settings.cache_url, answer_seconds=APPLYING_SECONDS)
    return AnswerCacheProjection(cache, build_log(settings), is_observed_only=is_observed_only)
