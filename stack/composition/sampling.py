"""Compares a sample of the cache's answers with OLTP; what differs is a sighting, which the reconciler compares next.

Belongs here: drawing the sample, and saying what differs. Does not belong here: the comparison
(`reconcile/cached_answers.py`), the repair (`repair/serving.py`), when this is done (`stack/upkeep/loops.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import psycopg

from contracts.ownership import ANSWER_CACHE
from contracts.settings import PodSettings, Settings
from contracts.sightings import Sighting, SightingKind
from derived.answer_cache.caches import cache_at
from derived.answer_cache.port import AnswerCache
from reconcile.cached_answers import Finding, GoodAnswer, NamedAnswer, compare_answers
from reconcile.copies.answer_cache import aggregate_of
from reconcile.sightings import keep_sightings
from stack.composition.answers import ANSWER_SECONDS, good_of, named

SAMPLED = 50
"""Answers of each pod in one comparison."""
SAMPLER = "cache"
"""The name by which sightings name this sample."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One comparison of a pod's cached answers."""

    pod: str
    counts: Mapping[Finding, int]
    different: tuple[NamedAnswer, ...]


def compare_samples(settings: Settings, *, count: int = SAMPLED) -> list[Sampled]:
    """Compare up to `count` answers of each pod, and keep a sighting of each that differs; empty without a cache."""
    if not settings.cache_url:
        return []
    with closing(cache_at(settings.cache_url, answer_seconds=ANSWER_SECONDS)) as cache:
        return [_compare(settings, cache, pod, count) for pod in settings.pods]


def _compare(settings: Settings, cache: AnswerCache, pod: PodSettings, count: int) -> Sampled:
    names = [named(key) for key in cache.sample(pod.pod, count)]
    good = good_of(cache, pod.pod, names)
    answers = [(name, good[name.text]) for name in names if name.text in good]
    found = compare_answers(pod.reader_dsn, answers)
    wrong = [answer for answer, finding in zip(answers, found, strict=True) if finding is Finding.DIFFERENT]
    if wrong:
        with psycopg.connect(settings.control_dsn) as connection:
            keep_sightings(connection, [_sighting(pod.pod, *answer) for answer in wrong])
    return Sampled(pod=pod.pod, counts=Counter(found), different=tuple(name for name, _ in wrong))


def _sighting(pod: str, name: NamedAnswer, answer: GoodAnswer) -> Sighting:
    return Sighting(
        witness=SAMPLER,
        kind=SightingKind.UNANNOUNCED,
        pod=pod,
        copy=ANSWER_CACHE.name,
        place=name.kind,
        aggregate_id=aggregate_of(name)[1],
        what=f"The cache holds an answer that no load has made: {name.text} of {pod}, said to be of cut {answer.cut}.",
        transaction=f"{name.text} of cut {answer.cut}",
    )
