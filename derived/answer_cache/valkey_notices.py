"""Follows what the cache's server tells of changed keys, so that a process may hold answers itself.

Belongs here: the two connections of `CLIENT TRACKING`, and what a message means. Does not belong here: holding answers
(`near.py`).

One connection asks for tracking of the keys with our prefixes, the other one gets the messages (RESP2). The server
stops tracking silently when the connection ends that asked for it. So both are asked for a sign of life every second,
and an error of either, also a message that cannot be read, means: drop everything and begin anew. After FLUSHALL the
server sends such a message.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import redis

from derived.answer_cache.near import NearAnswers
from derived.answer_cache.port import key_of
from derived.answer_cache.valkey_cache import told_prefix, value_prefix

logger = logging.getLogger("tieout.cache")

CHANNEL = "__redis__:invalidate"
CONNECT_SECONDS = 1.0
SIGN_SECONDS = 1.0
SILENCE_SECONDS_MAX = 3.0
"""Without any sign of life for so long, the connection counts as lost."""
RETRY_SECONDS = 0.5
EVERYTHING = "*"


class ValkeyNotices:
    """Keeps `near` told until `stop`."""

    def __init__(
        self, url: str, pods: Sequence[str], near: NearAnswers, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._prefixes = [(pod, of_pod(pod)) for pod in pods for of_pod in (told_prefix, value_prefix)]
        self._pods = tuple(pods)
        self._near = near
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache-notices", daemon=True)

    def start(self) -> None:
        """Begin to follow, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop following; what is held is dropped."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            asking, hearing = self._connection(), self._connection()
            try:
                self._follow(asking, hearing)
            except (redis.RedisError, OSError) as error:
                logger.info("the process holds no answers itself: %s", error)
            finally:
                self._near.end_being_told()
                for connection in (asking, hearing):
                    with suppress(redis.RedisError, OSError):
                        connection.disconnect()  # type: ignore[no-untyped-call]
            self._stop.wait(RETRY_SECONDS)

    def _connection(self) -> redis.Connection:
        pool = redis.ConnectionPool.from_url(
            self._url, protocol=2, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=SILENCE_SECONDS_MAX
        )
        connection: redis.Connection = pool.connection_class(**pool.connection_kwargs)
        return connection

    def _follow(self, asking: redis.Connection, hearing: redis.Connection) -> None:
        hearing_id = _ask(hearing, "CLIENT", "ID")
        _ask(hearing, "SUBSCRIBE", CHANNEL)
        prefixes = [word for _, prefix in self._prefixes for word in ("PREFIX", prefix)]
        _ask(asking, "CLIENT", "TRACKING", "ON", "REDIRECT", hearing_id, "BCAST", *prefixes)
        self._near.begin_being_told()
        heard_at = asked_at = self._monotonic()
        while not self._stop.is_set():
            if hearing.can_read(timeout=SIGN_SECONDS / 4):
                self._take(hearing.read_response())
                heard_at = self._monotonic()
            now = self._monotonic()
            if now - asked_at >= SIGN_SECONDS:
                hearing.send_command("PING")  # type: ignore[no-untyped-call]
                _ask(asking, "PING")
                asked_at = now
            if now - heard_at > SILENCE_SECONDS_MAX:
                raise redis.TimeoutError("the server has not told anything for too long")

    def _take(self, message: object) -> None:
        """Drop what a message names. A message without keys means all of them."""
        if not isinstance(message, list) or message[0] != b"message":
            return
        if message[2] is None:
            self._near.drop_all()
            return
        tags: dict[str, list[str]] = {}
        for name in message[2]:
            self._sort(name.decode(), tags)
        for pod, touched in tags.items():
            self._near.drop(pod, touched)

    def _sort(self, name: str, tags: dict[str, list[str]]) -> None:
        for pod in self._pods:
            if name.startswith(value_prefix(pod)):
                self._near.drop_answer(key_of(pod, name.removeprefix(value_prefix(pod))))
            elif name == told_prefix(pod) + EVERYTHING:
                self._near.drop_all()
            elif name.startswith(told_prefix(pod)):
                tags.setdefault(pod, []).append(name.removeprefix(told_prefix(pod)))


def _ask(connection: redis.Connection, *words: object) -> object:
    connection.send_command(*words)  # type: ignore[no-untyped-call]
    return connection.read_response()
