"""Which copies follow the log in a deployment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import SettingsError
from contracts.ownership import ANSWER_CACHE, PROJECTED, WEBHOOKS
from derived.answer_cache.caches import check_cache_url
from stack.composition.projections import followers
from tests.values import settings_of


def test_the_cache_follows_only_where_there_is_one(tmp_path: Path) -> None:
    without = settings_of(tmp_path, pods=())
    assert followers(without) == (*PROJECTED, WEBHOOKS)
    assert followers(replace(without, cache_url="redis://cache/0")) == (*PROJECTED, ANSWER_CACHE, WEBHOOKS)


def test_an_address_that_no_adapter_knows_is_refused() -> None:
    check_cache_url("")
    check_cache_url("rediss://cache/0")
    for url in ("memcached://cache", "cache:6379"):
        with pytest.raises(SettingsError, match="TIEOUT_CACHE_URL"):
            check_cache_url(url)
