"""The Valkey server of carts and sessions: its connection, its scripts, and its errors as one error of ours.

It is a server of its own, apart from the log's. What has a time to live may be evicted when its memory is full
(`volatile-lru`), so we give one to what can be had again, and to nothing else: a cart whose newest state is in its pod,
and a session, whose loss means to sign in again. A cart that waits for the writer has none.

Belongs here: the client. Does not belong here: keys and what they hold (`valkey_carts.py`, `sessions.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import redis
from redis.commands.core import Script

from contracts.errors import CartUnavailableError
from contracts.valkey import ServerLook, ServerTrouble, TroubleKind, look_at, telling

ANSWER_SECONDS = 1.0
"""A shopper waits for the page, so we turn to the other store soon."""
CONNECTIONS_MAX = 64

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class ServerAwayError(CartUnavailableError):
    """The server of carts cannot be reached, does not answer, or has no memory left."""


def _as_ours(trouble: ServerTrouble) -> CartUnavailableError:
    if trouble.kind is TroubleKind.AWAY:
        return ServerAwayError(f"The server of carts does not answer: {trouble.reason}.")
    if trouble.kind is TroubleKind.MEMORY_FULL:
        # The pod serves until there is room again.
        return ServerAwayError("The server of carts takes no change: its memory is full.")
    return CartUnavailableError(f"The server of carts refuses what it is asked: {trouble.reason}.")


def told_errors(call: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Decorate a function that asks the server: raise ServerAwayError when it is away, else CartUnavailableError."""
    return telling(_as_ours)(call)


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

    @told_errors
    def look(self, said: str) -> ServerLook:
        """Return what the server says of itself, and whether it keeps what is written."""
        return look_at(self.client, said)

    def script(self, text: str) -> Callable[[Sequence[str], Sequence[str | bytes | int]], Any]:
        """Return a script as a function of keys and arguments; the server loads it when it does not know it."""
        script: Script = self.client.register_script(text)

        @told_errors
        def run(keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
            return script(keys=list(keys), args=list(arguments))

        return run
