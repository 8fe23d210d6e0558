"""What the client of Valkey and Redis servers raises, sorted into few troubles; and what a server says of itself.

Belongs here: these mechanisms, which log, carts and cache share. Does not belong here: a connection, and the sentence
and type of an adapter's own error (the adapters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

import redis

from contracts.text import one_line

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class TroubleKind(StrEnum):
    """What keeps a server from answering."""

    AWAY = "away"
    """It cannot be reached, or does not answer in time."""
    MEMORY_FULL = "memory full"
    DISK_FULL = "disk full"
    REFUSED = "refused"
    """It answers, and refuses what it is asked."""


@dataclass(frozen=True, kw_only=True)
class ServerTrouble:
    """One error of the client."""

    kind: TroubleKind
    reason: str
    """What the server, or the way to it, has said: one line, without a full stop."""


def trouble_of(error: redis.RedisError) -> ServerTrouble:
    """Return what an error of the client means."""
    reason = one_line(error).rstrip(".")
    if isinstance(error, redis.OutOfMemoryError):
        kind = TroubleKind.MEMORY_FULL
    elif isinstance(error, redis.ConnectionError | redis.TimeoutError):
        kind = TroubleKind.AWAY
    else:
        kind = TroubleKind.DISK_FULL if "No space left on device" in reason else TroubleKind.REFUSED
    return ServerTrouble(kind=kind, reason=reason)


def telling(
    as_ours: Callable[[ServerTrouble], Exception],
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """Return a decorator that raises `as_ours` of whatever the client raises, without the client's own error."""

    def decorate(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        @wraps(call)
        def told(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
            try:
                return call(*arguments, **named)
            except redis.RedisError as error:
                raise as_ours(trouble_of(error)) from None

        return told

    return decorate


EMPTYING = ("flushall", "flushdb", "swapdb", "replicaof", "slaveof", "debug", "restore")
"""Commands without one of which a server is not emptied; nobody of ours gives them to that of carts or of the cache."""
BEAT = "tieout-witness"
"""The key at which a witness writes, to read it again."""
BEAT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class ServerLook:
    """What a server says of itself at one moment."""

    run_id: str
    """Another one after each start."""
    emptied: int
    """How often commands were given since its start that empty or replace what it holds."""
    keys: int
    heard: str
    """What was written at BEAT, as it was read again."""


def look_at(client: redis.Redis, said: str) -> ServerLook:
    """Write `said` and read it again, and return what the server says of itself."""
    client.set(BEAT, said, ex=BEAT_SECONDS)
    about = cast(Mapping[str, Any], client.info("server"))
    commands = cast(Mapping[str, Any], client.info("commandstats"))
    heard = cast(bytes | None, client.get(BEAT))
    return ServerLook(
        run_id=str(about["run_id"]),
        emptied=sum(int(commands.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in EMPTYING),
        keys=int(client.dbsize()),
        heard=heard.decode() if heard else "",
    )
