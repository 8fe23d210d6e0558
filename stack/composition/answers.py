"""What the cache holds, for the comparison of its answers and floors, which opens no connection itself.

Belongs here: reading the cache through its port. Does not belong here: comparing (`reconcile/copies/answer_cache.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from contracts.settings import Settings
from derived.answer_cache.caches import cache_at
from derived.answer_cache.port import AnswerCache, AnswerKey, Standing, key_of
from reconcile.cached_answers import GoodAnswer, HeldAnswers, HeldFloors, NamedAnswer
from streams.step_planning import floor_cut

ANSWER_SECONDS = 10.0


@contextmanager
def held_answers(settings: Settings, pod: str) -> Iterator[HeldAnswers]:
    """Yield what the cache holds of a pod."""
    with closing(cache_at(settings.cache_url, answer_seconds=ANSWER_SECONDS)) as cache:
        yield HeldAnswers(
            names=lambda: (named(key) for key in cache.keys(pod)),
            good=lambda names: good_of(cache, pod, names),
            floors=lambda above: _floors(cache, pod, above),
        )


def named(key: AnswerKey) -> NamedAnswer:
    """Return an answer's name as the comparison takes it."""
    kind = key.kind.rpartition(".")[0]
    return NamedAnswer(text=str(key), kind=kind, merchant_id=key.merchant_id, subject=key.subject)


def good_of(cache: AnswerCache, pod: str, names: Sequence[NamedAnswer]) -> dict[str, GoodAnswer]:
    """Return by name those of these answers that the cache would serve as good ones."""
    good = {}
    for name in names:
        looked = cache.look(key_of(pod, name.text))
        if looked is not None and looked.standing is Standing.FRESH and looked.held is not None:
            good[name.text] = GoodAnswer(cut=looked.held.cut, body=looked.held.body)
    return good


def _floors(cache: AnswerCache, pod: str, above: int) -> HeldFloors | None:
    found = cache.floors(pod, above)
    if found is None:
        return None
    following, floors = found
    positions = following.positions.values()
    begun = max((position.cut + (1 if position.chunk else 0) for position in positions), default=0)
    return HeldFloors(
        since_cut=following.since_cut, applied_cut=floor_cut(following.positions), begun_cut=begun, floors=floors
    )
