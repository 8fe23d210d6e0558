"""Chooses the adapter of a deployment's cache by the scheme of its URL.

Belongs here: that choice. Does not belong here: the port (`port.py`) and the adapters, which no other module needs to
import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from contracts.errors import SettingsError
from derived.answer_cache.port import AnswerCache
from derived.answer_cache.valkey_cache import ValkeyAnswerCache

ADAPTERS: Mapping[str, Callable[[str], AnswerCache]] = dict.fromkeys(("redis", "rediss", "unix"), ValkeyAnswerCache)
"""By the scheme of the URL."""


def cache_at(cache_url: str) -> AnswerCache:
    """Return the cache at a URL, and ask nothing yet; SettingsError when no adapter knows it."""
    scheme = urlsplit(cache_url).scheme
    if scheme not in ADAPTERS:
        known = ", ".join(f"{one}://" for one in ADAPTERS)
        begins = f"begins with {scheme}://" if scheme else "has no scheme"
        raise SettingsError(f"TIEOUT_CACHE_URL {begins}; the cache may be at {known}.")
    return ADAPTERS[scheme](cache_url)
