"""Fixtures of the tests of cuts, relay and consumer: a pod that has only an outbox, and the log's server itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.streams_support import create_outbox


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    return create_outbox(make_database("tieout_relay"))


@pytest.fixture
def server(valkey_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey_url) as client:
        yield client
