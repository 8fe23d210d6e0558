"""The cache of answers as its users see it: the port and its values.

Belongs here: what every cache must do, whichever server it is on. Does not belong here: a particular server
(`valkey_cache.py`), what a reader does with it (`reading.py`).

How an old answer is kept out. Whoever puts an answer together reads in one snapshot: the facts, and the number *n* of
the pod's last registered cut. So the answer has every event of the cuts up to *n*, on the primary and on a replica
however far behind. The consumer of the log says of each event which *tags* it touches (`contracts/assembled.py`). The
cache keeps for each tag the last cut that touched it: the tag's *floor*. An answer is good if *n* is not below the
floor of any of its tags. This is asked when it is filled and each time when it is read, so a slow loader, a lagging
replica, or somebody who puts old bytes back cannot make an old answer good.

Floors and the consumer's positions are one whole, which has a random name, its *generation*. A server that loses any
part of it (it was flushed, restarted, or it evicted the key) serves and takes nothing of the pod until the consumer
begins anew, and answers of an earlier generation are never good again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote, unquote

from contracts.assembled import Assembled
from streams.projection import Position


@dataclass(frozen=True, kw_only=True)
class AnswerKey:
    """Which answer. Whatever makes an earlier answer wrong for another reason than an event is part of its name."""

    pod: str
    kind: str
    """Name and shape version of the kind: a new program never reads what an older one put together."""
    merchant_id: str
    directory_epoch: int
    """Since when the merchant lives in the pod: what was cached before it moved away and back is never found again."""
    subject: str
    """The id of what the answer is about; empty for the merchant itself."""

    def __str__(self) -> str:
        names = (self.kind, str(self.directory_epoch), self.merchant_id, self.subject)
        return ":".join(quote(name, safe="") for name in names)


def key_of(pod: str, text: str) -> AnswerKey:
    """Return the key whose text this is."""
    kind, directory_epoch, merchant_id, subject = (unquote(name) for name in text.split(":"))
    return AnswerKey(pod=pod, kind=kind, directory_epoch=int(directory_epoch), merchant_id=merchant_id, subject=subject)


@dataclass(frozen=True, kw_only=True)
class Held:
    """An answer as the cache holds it."""

    body: bytes | None
    cut: int
    age_seconds: float
    """Since it was filled."""
    tags: tuple[str, ...]


class Standing(StrEnum):
    """What a reader may do."""

    FRESH = "fresh"
    """The answer is good."""
    EARLY = "early"
    """The answer is good, and the reader holds the lease: it should refresh it before it expires."""
    LEASE = "lease"
    """There is no good answer, and the reader holds the lease of loading it; `held` is what was there before."""
    WAIT = "wait"
    """There is no good answer, and somebody else loads it."""
    UNREADY = "unready"
    """The cache does not know what was touched last, so it holds nothing of this pod."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the cache says to a reader."""

    standing: Standing
    held: Held | None = None
    """The answer; with LEASE and WAIT one that is not good, for those who may serve a stale one."""
    token: str = ""
    """Of the lease, with EARLY and LEASE."""


class Filled(StrEnum):
    """What became of a fill."""

    FILLED = "filled"
    LOST = "lost"
    """The lease had ended, so somebody else may have loaded meanwhile."""
    STALE = "stale"
    """A later cut has touched a tag of the answer: it was read too early."""
    OLDER = "older"
    """The cache holds one that was read later."""
    OTHER_EPOCH = "other epoch"
    """The answer and what the cache follows are from different histories of the pod's database."""
    UNREADY = "unready"


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """How long an answer is kept."""

    fresh_seconds: float
    """It expires after this time, if no event has touched it before."""
    kept_seconds: float
    """It is removed after this time. Until then it may be served as a stale one."""


@dataclass(frozen=True, kw_only=True)
class Following:
    """How far the cache has followed a pod's log."""

    generation: str
    epoch: str
    since_cut: int
    """Answers from before this cut are not good, because floors of earlier cuts are not kept."""
    positions: Mapping[int, Position]
    data_at: datetime | None
    """When the newest applied cut was registered."""


@dataclass(frozen=True, kw_only=True)
class Touched:
    """One applied step: which tags were touched in which cut, and the positions that it moves."""

    epoch: str
    expected: Mapping[int, Position]
    positions: Mapping[int, Position]
    data_at: datetime
    floors: Mapping[str, int] = field(default_factory=dict)
    """Tag -> the last cut of the step that touched it."""


class AnswerCache(Protocol):
    """The operations that Tieout needs of a cache. Each is one step on the server and has a time limit.

    Every method raises CacheUnavailableError when the server does not answer in time or refuses.
    """

    def get_or_lease(self, key: AnswerKey, *, lease_seconds: float, early_factor: float) -> Found:
        """Return the answer, or the lease of loading it, which at most one reader holds at a time.

        `early_factor`: an answer that took 1 s to load is refreshed so many seconds before it expires. Draw it for each
        call as -ln of a uniform number (XFetch: Vattani, Chierichetti, Lowenstein 2015).
        """

    def fill(self, key: AnswerKey, token: str, answer: Assembled, *, lifetime: Lifetime, seconds: float) -> Filled:
        """Put an answer in, if the lease still holds and the answer is good. The lease ends either way.

        `seconds`: how long the answer took to load.
        """

    def renew(self, key: AnswerKey, token: str, *, lease_seconds: float) -> bool:
        """Let a lease begin anew; return whether it was still held."""

    def release(self, key: AnswerKey, token: str) -> None:
        """End a lease, if it is still held, so that the next reader may load."""

    def look(self, key: AnswerKey) -> Found | None:
        """Return the answer, WAIT when it is not good, and take no lease; None when the cache has none."""

    def drop(self, keys: Sequence[AnswerKey]) -> int:
        """Remove answers; return how many there were."""

    def begin(self, pod: str, epoch: str, since_cut: int, positions: Mapping[int, Position], data_at: datetime) -> str:
        """Begin anew at a position; no answer of before is good any more. Return the generation."""

    def following(self, pod: str) -> Following | None:
        """Return how far the cache has followed a pod; None when it must begin anew."""

    def invalidate(self, pod: str, touched: Touched) -> bool:
        """Set floors and positions, together; False, and nothing is set, when the expected positions are not these."""

    def floors(self, pod: str, above: int) -> tuple[Following, Mapping[str, int]] | None:
        """Return how far the cache has followed a pod, and tag -> floor of the floors above a cut, both at one moment.

        None when it must begin anew.
        """

    def forget(self, pod: str) -> bool:
        """Forget how far a pod was followed, so that nothing of it is good; False when that was unknown already."""

    def sample(self, pod: str, count: int) -> list[AnswerKey]:
        """Return the keys of about so many answers of a pod, others each time."""

    def keys(self, pod: str) -> Iterator[AnswerKey]:
        """Yield the keys of all answers of a pod. One that comes or goes meanwhile may be left out."""

    def ping(self) -> None:
        """Ask for any answer."""

    def close(self) -> None:
        """Close the connections."""
