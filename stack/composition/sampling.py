"""Compares a sample of the cache's answers with OLTP, and drops those that differ.

Belongs here: drawing the sample, handing it to the comparison, dropping. Does not belong here: the comparison
(`reconcile/cached_answers.py`), when this is done (`stack/upkeep/loops.py`).

A difference is no break of the ledger: the repair of a cached answer is to drop it, and whoever asks next loads it. But
it is said, because nothing of ours writes such an answer.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from contracts.settings import PodSettings, Settings
from derived.answer_cache.caches import cache_at
from derived.answer_cache.kinds import PRODUCT_PAGE
from derived.answer_cache.port import AnswerCache, AnswerKey, Held, Standing
from reconcile.cached_answers import Finding, SampledPage, compare_pages

SAMPLED = 50
"""Answers of each pod in one comparison."""
ANSWER_SECONDS = 10.0

logger = logging.getLogger("tieout.cache")


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """One comparison of a pod's cached answers."""

    pod: str
    counts: Mapping[Finding, int]
    dropped: tuple[AnswerKey, ...]
    """Those that differed."""


def compare_samples(settings: Settings, *, count: int = SAMPLED) -> list[Sampled]:
    """Compare up to `count` answers of each pod; empty without a cache."""
    if not settings.cache_url:
        return []
    with closing(cache_at(settings.cache_url, answer_seconds=ANSWER_SECONDS)) as cache:
        return [_compare(cache, pod, count) for pod in settings.pods]


def _compare(cache: AnswerCache, pod: PodSettings, count: int) -> Sampled:
    held = {key: good for key in cache.sample(pod.pod, count) if (good := _served(cache, key)) is not None}
    found = compare_pages(pod.reader_dsn, [_page(key, answer) for key, answer in held.items()])
    wrong = tuple(key for key, finding in zip(held, found, strict=True) if finding is Finding.DIFFERENT)
    cache.drop(wrong)
    for key in wrong:
        logger.error("The cache held an answer that no load has made: %s of %s. It was dropped.", key, pod.pod)
    return Sampled(pod=pod.pod, counts=Counter(found), dropped=wrong)


def _served(cache: AnswerCache, key: AnswerKey) -> Held | None:
    """Return the answer if it would be served as a good one, and is of a kind that is compared."""
    if key.kind != f"{PRODUCT_PAGE.name}.{PRODUCT_PAGE.shape}":
        return None
    looked = cache.look(key)
    return looked.held if looked is not None and looked.standing is Standing.FRESH else None


def _page(key: AnswerKey, held: Held) -> SampledPage:
    return SampledPage(merchant_id=key.merchant_id, product_id=key.subject, cut=held.cut, body=held.body)
