"""Answers that go through the cache: what is loaded where, and what a process without a cache does.

Belongs here: bringing a merchant's pod, the read of OLTP and the cache together. Does not belong here: the cache
(`derived/answer_cache/`), the reads (`oltp/reads/`), routes (`api/routes/`).

Only pages come by here. A command never reads a cached answer: it reads prices and stock again in its own transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from api.pods import FENCED_ATTEMPTS, Pods, connection_of
from contracts.assembled import Assembled
from contracts.errors import PodFencedError
from contracts.settings import Settings
from derived.answer_cache.caches import cache_at, notices_of
from derived.answer_cache.kinds import MERCHANT, PRODUCT_PAGE, SEARCH_PAGE, AnswerKind
from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import AnswerCache
from derived.answer_cache.reading import AnswerReader, Served, Source
from derived.answer_cache.valkey_notices import ValkeyNotices
from oltp.directory import Placement
from oltp.reads.merchant_page import read_merchant
from oltp.reads.product_page import read_product_page

Read = Callable[[psycopg.Connection[Any], Placement], Assembled]


@dataclass(frozen=True, kw_only=True)
class Cached:
    """The parts of reading through a cache."""

    cache: AnswerCache
    reader: AnswerReader
    notices: ValkeyNotices

    def close(self) -> None:
        """Stop following, renewing and asking."""
        self.notices.close()
        self.reader.close()
        self.cache.close()


class Answers:
    """Assembled answers of all merchants. Thread safe. Close it at the end."""

    def __init__(self, pods: Pods, cached: Cached | None) -> None:
        self._pods = pods
        self._cached = cached

    def close(self) -> None:
        """Close what belongs to the cache; the pods stay open."""
        if self._cached is not None:
            self._cached.close()

    def product_page(self, merchant_id: str, product_id: str, *, is_fresh: bool) -> Served:
        """Return a product's page; `is_fresh`: from OLTP, whatever the cache has."""

        def read(connection: psycopg.Connection[Any], placement: Placement) -> Assembled:
            return read_product_page(connection, merchant_id, product_id, directory_epoch=placement.epoch)

        return self._answer(PRODUCT_PAGE, merchant_id, product_id, read, is_fresh=is_fresh)

    def merchant(self, merchant_id: str, *, is_fresh: bool) -> Served:
        """Return a merchant's configuration; `is_fresh`: from OLTP, whatever the cache has."""

        def read(connection: psycopg.Connection[Any], placement: Placement) -> Assembled:
            return read_merchant(connection, merchant_id, directory_epoch=placement.epoch)

        return self._answer(MERCHANT, merchant_id, "", read, is_fresh=is_fresh)

    def search_page(self, merchant_id: str, subject: str, ask: Callable[[str], Assembled]) -> Served | None:
        """Return the first page of a search: `ask` puts it together from the index of a pod. None without a cache."""
        if self._cached is None:
            return None
        placement = self._pods.placement(merchant_id)
        key = SEARCH_PAGE.key(placement.pod, merchant_id, placement.epoch, subject)
        return self._cached.reader.read(SEARCH_PAGE, key, lambda: ask(placement.pod))

    def _answer(self, kind: AnswerKind, merchant_id: str, subject: str, read: Read, *, is_fresh: bool) -> Served:
        """Return an answer; where the merchant has moved meanwhile, once more from its new pod."""
        for _ in range(FENCED_ATTEMPTS - 1):
            try:
                return self._attempt(kind, merchant_id, subject, read, is_fresh=is_fresh)
            except PodFencedError:
                self._pods.forget(merchant_id)
        return self._attempt(kind, merchant_id, subject, read, is_fresh=is_fresh)

    def _attempt(self, kind: AnswerKind, merchant_id: str, subject: str, read: Read, *, is_fresh: bool) -> Served:
        placement = self._pods.placement(merchant_id)

        def load() -> Assembled:
            with connection_of(self._pods.pod(placement.pod)) as connection:
                return read(connection, placement)

        if self._cached is None or is_fresh:
            answer = load()
            return Served(body=answer.body, source=Source.OLTP, cut=answer.cut, age_seconds=0.0)
        return self._cached.reader.read(kind, kind.key(placement.pod, merchant_id, placement.epoch, subject), load)


def build_answers(settings: Settings, pods: Pods) -> Answers:
    """Return the answers of these settings; without a cache in them, each answer is put together when asked for."""
    if not settings.cache_url:
        return Answers(pods, None)
    cache, near = cache_at(settings.cache_url), NearAnswers()
    notices = notices_of(settings.cache_url, [pod.pod for pod in settings.pods], near)
    notices.start()
    return Answers(pods, Cached(cache=cache, reader=AnswerReader(cache, near=near), notices=notices))
