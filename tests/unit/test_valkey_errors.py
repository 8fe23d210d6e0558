"""Errors of the client become one of few troubles, each adapter's own error, and nothing of the client's is chained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from contracts.errors import CacheUnavailableError, CartUnavailableError, LogUnavailableError
from contracts.valkey import ServerTrouble, TroubleKind, trouble_of
from derived.answer_cache import valkey_cache
from oltp.carts import valkey_server as carts
from streams import valkey_server as log

RAISED = [
    (redis.ConnectionError("Error 111 connecting.\n"), TroubleKind.AWAY, "Error 111 connecting"),
    (redis.TimeoutError("Timeout  reading"), TroubleKind.AWAY, "Timeout reading"),
    (redis.OutOfMemoryError("command not allowed"), TroubleKind.MEMORY_FULL, "command not allowed"),
    (
        redis.ResponseError("MISCONF: No space left on device"),
        TroubleKind.DISK_FULL,
        "MISCONF: No space left on device",
    ),
    (redis.ResponseError("WRONGTYPE"), TroubleKind.REFUSED, "WRONGTYPE"),
]


@pytest.mark.parametrize(("error", "kind", "reason"), RAISED)
def test_an_error_is_one_of_few_troubles(error: redis.RedisError, kind: TroubleKind, reason: str) -> None:
    assert trouble_of(error) == ServerTrouble(kind=kind, reason=reason)


@pytest.mark.parametrize(
    ("decorate", "ours"),
    [
        (log.told_errors, LogUnavailableError),
        (carts.told_errors, CartUnavailableError),
        (valkey_cache.told_errors, CacheUnavailableError),
    ],
    ids=["log", "carts", "cache"],
)
def test_each_adapter_raises_its_own_error(decorate: Callable[..., Callable[[], None]], ours: type[Exception]) -> None:
    for error, kind, _ in RAISED:

        def ask(error: Exception = error) -> None:
            raise error

        with pytest.raises(ours) as raised:
            decorate(ask)()
        assert raised.value.__suppress_context__ and "\n" not in str(raised.value)
        assert isinstance(raised.value, carts.ServerAwayError) == (
            ours is CartUnavailableError and kind in (TroubleKind.AWAY, TroubleKind.MEMORY_FULL)
        )
