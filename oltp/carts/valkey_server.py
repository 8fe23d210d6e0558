"""The Valkey server of carts and sessions: its connection, its scripts, and its errors as one error of ours.

It is a server of its own, apart from the log's. What has a time to live may be evicted when its memory is full
(`volatile-lru`), so we give one to what can be had again, and to nothing else: a cart whose newest state is in its pod,
and a session, whose loss means to sign in again. A cart that waits for the writer has none.

Belongs here: the client. Does not belong here: keys and what they hold (`valkey_carts.py`, `sessions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import redis
from redis.commands.core import Script

from contracts.errors import CartUnavailableError

ANSWER_SECONDS = 1.0
"""A shopper waits for the page, so we turn to the other store soon."""
CONNECTIONS_MAX = 64

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class ServerAwayError(CartUnavailableError):
    """The server of carts cannot be reached, does not answer, or has no memory left."""


def told_errors(call: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Decorate a function that asks the server: raise ServerAwayError when it is away, else CartUnavailableError."""

    @wraps(call)
    def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        try:
            return call(*arguments, **named)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ServerAwayError(f"The server of carts does not answer: {_reason(error)}.") from None
        except redis.OutOfMemoryError:
            # The pod serves until there is room again.
            raise ServerAwayError("The server of carts takes no change: its memory is full.") from None
        except redis.RedisError as error:
            raise CartUnavailableError(f"The server of carts refuses what it is asked: {_reason(error)}.") from None

    return told


class CartServer:
    """One Valkey server. Thread safe, as redis-py's pool is. Connects at the first question."""

    def __init__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=answer_seconds,
            socket_connect_timeout=answer_seconds,
            socket_keepalive=True,
            max_connections=CONNECTIONS_MAX,
            # A script that was answered too late may have run; only its caller knows whether to repeat it.
            retry=None,
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @told_errors
    def ping(self) -> None:
        """Ask the server for any answer."""
        self.client.ping()

    def script(self, text: str) -> Callable[[Sequence[str], Sequence[str | bytes | int]], Any]:
        """Return a script as a function of keys and arguments; the server loads it when it does not know it."""
        script: Script = self.client.register_script(text)

        @told_errors
        def run(keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
            return script(keys=list(keys), args=list(arguments))

        return run


def _reason(error: redis.RedisError) -> str:
    return " ".join(str(error).split()).rstrip(".")
