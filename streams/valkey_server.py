"""A Valkey or Redis server as such: its connection, its errors in sentences, and what people ask it.

Belongs here: what does not depend on what is stored there. Does not belong here: the log's keys and commands
(`streams/valkey_log.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import redis

from contracts.errors import InputError, LogUnavailableError
from contracts.valkey import ServerTrouble, TroubleKind, telling
from streams.log import ANSWER_SECONDS, LogMemory

CONNECT_SECONDS = 5.0
READING = {"ping", "info", "dbsize", "type", "ttl", "exists", "get", "hget", "hgetall", "xlen", "xinfo", "xrange"}
READING |= {"xrevrange", "memory", "slowlog", "latency", "scan", "config get", "client list"}
"""Commands of the server that change nothing, by their first words."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def unavailable(trouble: ServerTrouble) -> LogUnavailableError:
    """Return the sentence for what the server, or the way to it, has said instead of an answer."""
    reason = trouble.reason
    sentences = {
        TroubleKind.MEMORY_FULL: "The log takes no entries: its memory is full until it is trimmed.",
        TroubleKind.AWAY: f"The log does not answer: {reason}. Look with `tieout status`.",
        TroubleKind.DISK_FULL: f"The log takes no entries: its disk is full ({reason}). Make room there.",
        TroubleKind.REFUSED: f"The log's server refuses what it is asked: {reason}. Look with `tieout status`.",
    }
    return LogUnavailableError(sentences[trouble.kind], reason=reason)


def told_errors(call: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Decorate a method of the port: raise LogUnavailableError when the server is unreachable or its memory is full."""
    return telling(unavailable)(call)


class ValkeyServer:
    """One Valkey or Redis server (or a cluster node set). Thread safe, as redis-py's pool is."""

    def __init__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._client: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=answer_seconds,
            socket_connect_timeout=min(answer_seconds, CONNECT_SECONDS),
            socket_keepalive=True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @told_errors
    def ping(self) -> None:
        """Ask the server for any answer."""
        self._client.ping()

    @told_errors
    def memory(self) -> LogMemory:
        """Return how much memory the server uses."""
        said = cast(Mapping[str, Any], self._client.info("memory"))
        return LogMemory(
            used_bytes=int(said["used_memory"]),
            limit_bytes=int(said.get("maxmemory", 0)) or None,
            machine_bytes=int(said.get("total_system_memory", 0)),
        )

    def is_reading(self, words: Sequence[str]) -> bool:
        """Return whether a command is known to change nothing."""
        return not {words[0].lower(), " ".join(words[:2]).lower()}.isdisjoint(READING)

    @told_errors
    def ask(self, words: Sequence[str | bytes]) -> list[str]:
        """Send the server a command; return the lines of its answer."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*words)  # type: ignore[no-untyped-call]
            return list(_lines(connection.read_response()))
        except redis.ResponseError as error:
            raise InputError(f"The log's server refuses {_text(words[0])}: {error}.") from None
        finally:
            # The command may have changed what the connection is set to, e.g. its database.
            connection.disconnect()  # type: ignore[no-untyped-call]
            pool.release(connection)


def _lines(answer: Any, indent: str = "") -> Iterator[str]:
    """Yield an answer's lines; what is in a list is indented once more each time."""
    if isinstance(answer, list | tuple | set):
        for one in answer:
            yield from _lines(one, indent + ("  " if isinstance(one, list | tuple | set) else ""))
    elif isinstance(answer, dict):
        for name, one in answer.items():
            yield from (f"{indent}{_text(name)}: {line}" for line in _lines(one))
    else:
        yield from (f"{indent}{line}" for line in _text(answer).splitlines() or [""])


def _text(value: object) -> str:
    """Return a value of an answer as text; bytes that are none, e.g. an entry's events, as escapes."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return "(nothing)" if value is None else str(value)
