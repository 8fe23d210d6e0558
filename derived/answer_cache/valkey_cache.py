"""The cache of answers on a Valkey server.

Belongs here: keys, calls and replies of that server. Does not belong here: the functions that run on it
(`functions.lua`), anything that a second adapter would also need (`port.py`), following what is told
(`valkey_notices.py`).

The braces in the keys are a hash tag, so that all keys of a pod are in one slot of a cluster.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contracts.assembled import Assembled
from contracts.errors import CacheUnavailableError
from contracts.valkey import ServerLook, ServerTrouble, look_at, telling
from derived.answer_cache.port import (
    AnswerKey,
    Filled,
    Following,
    Found,
    Held,
    Lifetime,
    Standing,
    Touched,
    key_of,
)
from streams.projection import Position

_SOURCE = Path(__file__).with_name("functions.lua").read_text(encoding="utf-8")
PREFIX = f"tieout_{hashlib.sha256(_SOURCE.encode()).hexdigest()[:8]}_"
"""Begins the names of the functions on the server: programs of two versions each call their own."""
FUNCTIONS = _SOURCE.replace("tieout_", PREFIX)
ANSWER_SECONDS = 0.25
"""A cache that needs longer is worth nothing: the reader goes on without it."""
CONNECTIONS_MAX = 16
"""Of one process. More threads than these wait for each other."""
FLOORS_MAX = 100_000
"""Tags of one pod whose floors are kept, about 15 MB. An answer from before what is forgotten is loaded again."""
SAMPLED_PAGE = 200

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def _root(pod: str) -> str:
    return f"{{tieout-answers:{pod}}}"


def value_prefix(pod: str) -> str:
    """Return how the names of the keys begin that hold a pod's answers."""
    return f"{_root(pod)}:v:"


def told_prefix(pod: str) -> str:
    """Return how the names of the keys begin that are set when a tag is touched."""
    return f"{_root(pod)}:t:"


def client_of(url: str) -> redis.Redis:
    """Return the server's own client, for what no reader or consumer may do: emptying it, and damages on purpose."""
    return redis.Redis.from_url(url)


def floors_key(pod: str) -> str:
    """Return the name of the key that holds a pod's floors."""
    return f"{_root(pod)}:floors"


def value_key(key: AnswerKey) -> str:
    """Return the name of the key that holds an answer."""
    return f"{value_prefix(key.pod)}{key}"


def _as_ours(trouble: ServerTrouble) -> CacheUnavailableError:
    return CacheUnavailableError(f"The cache does not answer: {trouble.reason}. Everything else goes on.")


def told_errors(call: Callable[Arguments, Answer]) -> Callable[Arguments, Answer]:
    """Decorate a method of the port: raise CacheUnavailableError whatever the server, or the way to it, has said."""
    return telling(_as_ours)(call)


class ValkeyAnswerCache:
    """The cache port on one Valkey server. Thread safe, as redis-py's pool is."""

    def __init__(self, url: str, *, answer_seconds: float = ANSWER_SECONDS, floors_max: int = FLOORS_MAX) -> None:
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=answer_seconds,
            socket_timeout=answer_seconds,
            socket_connect_timeout=answer_seconds,
            socket_keepalive=True,
            # No retry: whoever waits for a cache has a faster way.
            retry=Retry(NoBackoff(), 0),
        )
        self._client: redis.Redis = redis.Redis.from_pool(pool)
        self._floors_max = floors_max

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @told_errors
    def ping(self) -> None:
        """Ask the server for any answer."""
        self._client.ping()

    @told_errors
    def server_look(self, said: str) -> ServerLook:
        """Return what the server says of itself, and whether it keeps what is written."""
        return look_at(self._client, said)

    # Keys

    @staticmethod
    def _keys(pod: str) -> tuple[str, str]:
        return f"{_root(pod)}:state", floors_key(pod)

    @staticmethod
    def _lease_key(key: AnswerKey) -> str:
        return f"{_root(key.pod)}:l:{key}"

    def _all_keys(self, key: AnswerKey) -> tuple[str, ...]:
        return (*self._keys(key.pod), value_key(key), self._lease_key(key))

    def _call(self, function: str, keys: Sequence[str], *arguments: object) -> Any:
        """Call one of the server's functions; give the server the functions first if it does not have them."""
        told = (
            PREFIX + function,
            len(keys),
            *keys,
            *(one if isinstance(one, bytes) else str(one) for one in arguments),
        )
        try:
            return self._client.execute_command("FCALL", *told)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if "Function not found" not in str(error):
                raise
        self._client.function_load(FUNCTIONS, replace=True)
        return self._client.execute_command("FCALL", *told)  # type: ignore[no-untyped-call]

    # Reading and filling

    @told_errors
    def get_or_lease(self, key: AnswerKey, *, lease_seconds: float, early_factor: float) -> Found:
        """Return the answer, or the lease of loading it."""
        token = secrets.token_hex(8)
        reply = self._call(
            "get_or_lease", self._all_keys(key), token, _milliseconds(lease_seconds), f"{early_factor:.6f}"
        )
        standing = Standing(reply[0].decode())
        is_leased = standing in (Standing.EARLY, Standing.LEASE)
        return Found(standing=standing, held=_held(reply), token=token if is_leased else "")

    @told_errors
    def fill(self, key: AnswerKey, token: str, answer: Assembled, *, lifetime: Lifetime, seconds: float) -> Filled:
        """Put an answer in, if the lease still holds and the answer is good."""
        reply = self._call(
            "fill",
            self._all_keys(key),
            token,
            answer.epoch,
            answer.cut,
            f"{seconds:.6f}",
            _milliseconds(lifetime.fresh_seconds),
            _milliseconds(lifetime.kept_seconds),
            int(answer.body is None),
            answer.body or b"",
            *answer.tags,
        )
        return Filled(reply.decode())

    @told_errors
    def renew(self, key: AnswerKey, token: str, *, lease_seconds: float) -> bool:
        """Let a lease begin anew; return whether it was still held."""
        return bool(self._call("renew", [self._lease_key(key)], token, _milliseconds(lease_seconds)))

    @told_errors
    def release(self, key: AnswerKey, token: str) -> None:
        """End a lease, if it is still held."""
        self._call("release", [self._lease_key(key)], token)

    @told_errors
    def look(self, key: AnswerKey) -> Found | None:
        """Return the answer, WAIT when it is not good; None when there is none."""
        reply = self._call("look", self._all_keys(key)[:3])
        if not reply:
            return None
        return Found(standing=Standing.FRESH if reply[0] == b"fresh" else Standing.WAIT, held=_held(reply))

    @told_errors
    def drop(self, keys: Sequence[AnswerKey]) -> int:
        """Remove answers; return how many there were."""
        return self._client.delete(*map(value_key, keys)) if keys else 0

    # Following the log

    @told_errors
    def begin(self, pod: str, epoch: str, since_cut: int, positions: Mapping[int, Position], data_at: datetime) -> str:
        """Begin anew at a position; return the generation."""
        generation = secrets.token_hex(8)
        self._call(
            "begin",
            self._keys(pod),
            told_prefix(pod),
            generation,
            epoch,
            since_cut,
            data_at.isoformat(),
            *(word for partition, position in positions.items() for word in (partition, _text(position))),
        )
        return generation

    @told_errors
    def following(self, pod: str) -> Following | None:
        """Return how far the cache has followed a pod; None when it must begin anew."""
        state, floors = self._keys(pod)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(state)
        pipeline.zrange(floors, -1, -1)
        told, last = pipeline.execute()
        return _following(told, last[-1] if last else b"")

    @told_errors
    def floors(self, pod: str, above: int) -> tuple[Following, Mapping[str, int]] | None:
        """Return how far the cache has followed a pod and the floors above a cut; None when it must begin anew."""
        state, floors = self._keys(pod)
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hgetall(state)
        pipeline.zrange(floors, f"({above}", "+inf", byscore=True, withscores=True)
        told, scores = pipeline.execute()
        *tags, last = scores or [(b"", 0.0)]
        following = _following(told, last[0])
        return None if following is None else (following, {tag.decode(): int(cut) for tag, cut in tags})

    @told_errors
    def forget(self, pod: str) -> bool:
        """Forget how far a pod was followed, so that nothing of it is good until its consumer begins anew."""
        return bool(self._client.delete(*self._keys(pod)))

    @told_errors
    def invalidate(self, pod: str, touched: Touched) -> bool:
        """Set floors and positions, together; return whether the expected positions were these."""
        moves = [
            word
            for partition, position in touched.positions.items()
            for word in (partition, _text(touched.expected[partition]), _text(position))
        ]
        reply = self._call(
            "invalidate",
            self._keys(pod),
            told_prefix(pod),
            touched.epoch,
            touched.data_at.isoformat(),
            self._floors_max,
            len(touched.positions),
            *moves,
            *(word for floor in touched.floors.items() for word in floor),
        )
        return bool(reply == b"done")

    @told_errors
    def sample(self, pod: str, count: int) -> list[AnswerKey]:
        """Return the keys of about so many answers of a pod: those of a place in the key space drawn at random."""
        found = dict[bytes, None]()
        # A second time from the beginning: the first place may be near the end.
        for cursor in (secrets.randbelow(1 << 32), 0):
            while len(found) < count:
                cursor, keys = self._page(pod, cursor)
                found.update(dict.fromkeys(keys))
                if cursor == 0:
                    break
        return [key for name in list(found)[:count] if (key := _key(pod, name)) is not None]

    def keys(self, pod: str) -> Iterator[AnswerKey]:
        """Yield the keys of all answers of a pod."""
        cursor = -1
        while cursor:
            cursor, names = self._page(pod, max(cursor, 0))
            yield from (key for name in names if (key := _key(pod, name)) is not None)

    @told_errors
    def _page(self, pod: str, cursor: int) -> tuple[int, list[bytes]]:
        match = f"{value_prefix(pod)}*"
        return cast(tuple[int, list[bytes]], self._client.scan(cursor, match=match, count=SAMPLED_PAGE))


def _key(pod: str, name: bytes) -> AnswerKey | None:
    """Return the key that has this name; None for a name that no reader asks for."""
    try:
        return key_of(pod, name.decode().removeprefix(value_prefix(pod)))
    except ValueError:
        return None


def _following(told: Mapping[bytes, bytes], last: bytes) -> Following | None:
    """Return what a pod's state says; `last` is the highest member of the floors, which must be the state's own."""
    generation = told.get(b"generation", b"")
    if not generation or last != b"=" + generation:
        return None
    positions = {int(name[1:]): _position(value) for name, value in told.items() if re.fullmatch(rb"p\d+", name)}
    return Following(
        generation=generation.decode(),
        epoch=told[b"epoch"].decode(),
        since_cut=int(told[b"since"]),
        positions=positions,
        data_at=datetime.fromisoformat(told[b"data_at"].decode()),
    )


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))


def _held(reply: Sequence[Any]) -> Held | None:
    if len(reply) < 2:
        return None
    _, cut, age, absent, body, tags = reply
    return Held(
        body=None if absent == b"1" else body,
        cut=int(cut),
        age_seconds=int(age) / 1_000,
        tags=tuple(tag.decode() for tag in tags),
    )


def _text(position: Position) -> str:
    return f"{position.cut}:{position.chunk}"


def _position(text: bytes) -> Position:
    cut, chunk = text.split(b":")
    return Position(cut=int(cut), chunk=int(chunk))
