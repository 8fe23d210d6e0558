"""Chooses the adapter of a deployment's cache by the scheme of its URL.

Belongs here: that choice. Does not belong here: the port (`port.py`) and the adapters, which no other module needs to
import.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from contracts.errors import SettingsError
from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import AnswerCache
from derived.answer_cache.valkey_cache import ANSWER_SECONDS, ValkeyAnswerCache
from derived.answer_cache.valkey_notices import ValkeyNotices


class Adapter(Protocol):
    """How a cache is made of its URL. Nothing is asked yet."""

    def __call__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> AnswerCache:
        """Return the cache; each of its calls waits so long for an answer."""


ADAPTERS: Mapping[str, Adapter] = dict.fromkeys(("redis", "rediss", "unix"), ValkeyAnswerCache)
"""By the scheme of the URL."""


def cache_at(cache_url: str, *, answer_seconds: float = ANSWER_SECONDS) -> AnswerCache:
    """Return the cache at a URL, and ask nothing yet; SettingsError when no adapter knows it."""
    check_cache_url(cache_url or "none")
    return ADAPTERS[urlsplit(cache_url).scheme](cache_url, answer_seconds=answer_seconds)


def notices_of(cache_url: str, pods: Sequence[str], near: NearAnswers) -> ValkeyNotices:
    """Return what keeps a process told of the changes of the cache at a URL; it begins when it is started."""
    return ValkeyNotices(cache_url, pods, near)


def check_cache_url(cache_url: str) -> None:
    """Raise SettingsError when no adapter has the scheme of a URL; an empty one means that there is no cache."""
    scheme = urlsplit(cache_url).scheme
    if cache_url and scheme not in ADAPTERS:
        known = ", ".join(f"{one}://" for one in ADAPTERS)
        begins = f"begins with {scheme}://" if scheme else "has no scheme"
        raise SettingsError(f"TIEOUT_CACHE_URL {begins}; the cache may be at {known}.")
