"""Carts in Valkey: read, changed by compare-and-set, and queued for the writer in the same step.

Each cart is a hash: its state, the token of this state, and its incarnation. A change names the token that it has read,
and a script stores the new state only if the cart still has that token; so of two processes that change a cart at once,
one repeats. No token comes twice: it is a counter with the id of the server's run. When the run is another one than the
token's, the server was restarted and may have lost the newest states, so the next change draws a new incarnation.

A pod's queue is a sorted set of the carts that the pod does not have yet, by the time since when. Setting a state and
queueing its cart are one script, and only `settle` takes a cart out, after its pod has committed exactly the state that
the cart still has. So a writer that is killed loses nothing; the next one does the same again.

Belongs here: these keys and scripts. Does not belong here: which change is made (`cart_requests.py`), writing to a pod
(`writer.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import cast

from contracts.carts import CartKey
from contracts.errors import CartUnavailableError
from oltp.carts.actors import new_incarnation
from oltp.carts.valkey_server import CartServer, told_errors
from oltp.domain.cart_codec import decoded, encoded
from oltp.domain.carts import EMPTY, Cart

KEY = "cart:"
QUEUE = "carts:queue:"
ASIDE = "carts:aside:"
TOKENS = "carts:tokens"
DONE = "cart-request:"

OPENING_MS = 30_000
"""How long a cart that is being read from its pod keeps its token."""
IDLE_MS = 7 * 86_400_000
"""How long a cart that its pod has, too, stays when nobody looks at it."""
REQUEST_MS = 3_600_000
"""How long a request is known by its key."""

_RUN = "local run = string.match(server.call('INFO', 'server'), 'run_id:(%x+)')\n"
_NOW = "local t = server.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

_OPEN = (
    _RUN
    + """
local held = server.call('HMGET', KEYS[1], 'token', 'state', 'incarnation')
local asked = KEYS[3] ~= '' and server.call('GET', KEYS[3])
if not held[1] then
    local token = run .. ':' .. server.call('INCR', KEYS[2])
    server.call('HSET', KEYS[1], 'token', token)
    server.call('PEXPIRE', KEYS[1], ARGV[1])
    return {run, token, false, false, asked}
end
if held[2] then server.call('PEXPIRE', KEYS[1], ARGV[2], 'XX') end
return {run, held[1], held[2], held[3], asked}
"""
)

_STORE = (
    _RUN
    + _NOW
    + """
local token, given_run, state, incarnation, member, queued_max = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if KEYS[4] ~= '' and server.call('EXISTS', KEYS[4]) == 1 then return 'repeated' end
if run ~= given_run or server.call('HGET', KEYS[1], 'token') ~= token then return 'changed' end
local is_waiting = server.call('ZSCORE', KEYS[3], member)
if queued_max ~= '' then
    if not is_waiting and server.call('ZCARD', KEYS[3]) >= tonumber(queued_max) then return 'full' end
    server.call('ZADD', KEYS[3], 'NX', now, member)
    is_waiting = true
end
local new_token = run .. ':' .. server.call('INCR', KEYS[2])
server.call('HSET', KEYS[1], 'token', new_token, 'state', state, 'incarnation', incarnation)
if is_waiting then server.call('PERSIST', KEYS[1]) else server.call('PEXPIRE', KEYS[1], ARGV[7]) end
if KEYS[4] ~= '' then server.call('SET', KEYS[4], ARGV[9], 'PX', ARGV[8]) end
return new_token
"""
)

_SETTLE = (
    _NOW
    + """
local held = server.call('HGET', KEYS[1], 'token')
if held and held ~= ARGV[1] then
    server.call('ZADD', KEYS[2], 'XX', now, ARGV[2])
    return 0
end
server.call('ZREM', KEYS[2], ARGV[2])
server.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""
)

_QUEUE = (
    _NOW
    + """
if server.call('HEXISTS', KEYS[1], 'state') == 0 then return 0 end
server.call('PERSIST', KEYS[1])
server.call('ZADD', KEYS[2], 'NX', now, ARGV[1])
return 1
"""
)

_DROP_OPENING = """
if server.call('HEXISTS', KEYS[1], 'state') == 0 then return server.call('DEL', KEYS[1]) end
return 0
"""

_MOVE = """
local score = server.call('ZSCORE', KEYS[1], ARGV[1])
if score then
    server.call('ZADD', KEYS[2], 'NX', score, ARGV[1])
    server.call('ZREM', KEYS[1], ARGV[1])
end
return 0
"""


@dataclass(frozen=True, kw_only=True)
class HeldCart:
    """A cart as it was read, with what a change of it must name."""

    key: CartKey
    run: str
    token: str
    cart: Cart
    incarnation: str
    is_held: bool
    """Whether the server has a state of it; if not, its pod may have one."""
    asked: str | None = None
    """What the request with the key that was named had asked for; None: there was none, or it is forgotten."""

    def begun_anew(self) -> HeldCart:
        """Return it empty, because its state has expired; events of it get new names."""
        return replace(self, cart=Cart(number=self.cart.number), incarnation=new_incarnation(), is_held=False)


@dataclass(frozen=True, kw_only=True)
class QueuedCart:
    """A cart that waits for the writer."""

    key: CartKey
    token: str
    state: bytes | None
    """As stored; None: the cart is gone from the server."""


class ChangedError(Exception):
    """The cart has been changed since it was read; read it again and repeat."""


class RepeatedError(Exception):
    """A request with this key has changed the cart already."""


class ValkeyCarts:
    """The carts of all pods on one server. Methods raise CartUnavailableError, or ServerAwayError when it is away."""

    def __init__(self, server: CartServer, *, queued_max: int) -> None:
        self._client = server.client
        self._queued_max = queued_max
        self._open = server.script(_OPEN)
        self._store = server.script(_STORE)
        self._settle = server.script(_SETTLE)
        self._move = server.script(_MOVE)
        self._drop_opening = server.script(_DROP_OPENING)
        self._queue = server.script(_QUEUE)

    def open(self, key: CartKey, *, request_key: str = "") -> HeldCart:
        """Return a cart and what a change of it must name. CartUnreadableError when its state cannot be read."""
        keys = [KEY + key.text, TOKENS, _done(key, request_key)]
        run, token, state, incarnation, asked = self._open(keys, [OPENING_MS, IDLE_MS])
        is_same_run = token.startswith(run + b":")
        return HeldCart(
            key=key,
            run=run.decode(),
            token=token.decode(),
            cart=EMPTY if state is None else decoded(state),
            incarnation=incarnation.decode() if incarnation and is_same_run else new_incarnation(),
            is_held=state is not None,
            asked=None if asked is None else asked.decode(),
        )

    @told_errors
    def remember(self, key: CartKey, request_key: str, asked: str) -> None:
        """Know a request by its key that had nothing to change."""
        self._client.set(_done(key, request_key), asked, px=REQUEST_MS, nx=True)

    def store(
        self,
        held: HeldCart,
        cart: Cart,
        *,
        pod: str,
        request_key: str = "",
        asked: str = "",
        is_settled: bool = False,
    ) -> None:
        """Store the next state of a cart that was read as `held`, and queue it for its pod's writer.

        `asked` is kept with `request_key`. `is_settled`: the pod has this state, so it need not be queued. Raises
        ChangedError, RepeatedError, and CartUnavailableError when the queue is full.
        """
        text = held.key.text
        queued_max = "" if is_settled else str(self._queued_max)
        outcome = self._store(
            [KEY + text, TOKENS, QUEUE + pod, _done(held.key, request_key)],
            [held.token, held.run, encoded(cart), held.incarnation, text, queued_max, IDLE_MS, REQUEST_MS, asked],
        )
        if outcome == b"changed":
            raise ChangedError
        if outcome == b"repeated":
            raise RepeatedError
        if outcome == b"full":
            raise CartUnavailableError(
                f"As many carts wait for {pod}'s database as may, {self._queued_max:,}; no other is changed until then."
            )

    @told_errors
    def queued(self, pod: str, most: int) -> list[QueuedCart]:
        """Return the carts that have waited longest for a pod's writer, with their states; they stay in the queue."""
        members = cast(list[bytes], self._client.zrange(QUEUE + pod, 0, most - 1))
        keys = [CartKey.of_text(member.decode()) for member in members]
        return [
            QueuedCart(key=key, token="" if token is None else token.decode(), state=state)
            for key, (token, state) in zip(keys, self._states(keys), strict=True)
        ]

    def settle(self, pod: str, queued: QueuedCart) -> bool:
        """Take a cart out of the queue, because its pod has its state; False when it was changed and waits anew."""
        text = queued.key.text
        return bool(self._settle([KEY + text, QUEUE + pod], [queued.token, text, IDLE_MS]))

    def move(self, key: CartKey, from_pod: str, to_pod: str) -> None:
        """Put a waiting cart into another pod's queue, because its merchant has moved."""
        self._move([QUEUE + from_pod, QUEUE + to_pod], [key.text])

    def put_aside(self, key: CartKey, pod: str) -> None:
        """Take a cart that cannot be written out of a pod's queue; it stays, and is listed for people."""
        self._move([QUEUE + pod, ASIDE + pod], [key.text])

    @told_errors
    def aside(self, pod: str) -> list[CartKey]:
        """Return the carts that were put aside, the first one first."""
        members = cast(list[bytes], self._client.zrange(ASIDE + pod, 0, -1))
        return [CartKey.of_text(member.decode()) for member in members]

    @told_errors
    def waiting(self, pod: str) -> tuple[int, float]:
        """Return how many carts wait for a pod's writer, and for how many seconds the first has waited."""
        oldest = cast(list[tuple[bytes, float]], self._client.zrange(QUEUE + pod, 0, 0, withscores=True))
        seconds, microseconds = self._client.time()
        now_ms = seconds * 1_000 + microseconds / 1_000
        number = int(self._client.zcard(QUEUE + pod))
        return number, max(0.0, now_ms - oldest[0][1]) / 1_000 if oldest else 0.0

    @told_errors
    def waiting_of(self, pod: str, keys: Iterable[CartKey]) -> list[CartKey]:
        """Return which of these carts wait for a pod's writer."""
        listed = list(keys)
        if not listed:
            return []
        found = self._client.zmscore(QUEUE + pod, [key.text for key in listed])
        return [key for key, since_ms in zip(listed, found, strict=True) if since_ms is not None]

    @told_errors
    def states(self, keys: Iterable[CartKey]) -> dict[CartKey, bytes]:
        """Return the stored states of these carts; a cart that is not there is left out."""
        listed = list(keys)
        found = zip(listed, self._states(listed), strict=True)
        return {key: state for key, (_, state) in found if state is not None}

    def queue(self, key: CartKey, pod: str) -> bool:
        """Let a pod's writer merge a cart both ways; False when the server has no state of it."""
        return bool(self._queue([KEY + key.text, QUEUE + pod], [key.text]))

    @told_errors
    def page(self, cursor: int, at_once: int = 1_000) -> tuple[int, list[CartKey]]:
        """Return the next cursor, 0 at the end, and the keys of some carts; begin with cursor 0.

        A cart that comes or goes meanwhile may be left out.
        """
        following, names = cast(tuple[int, list[bytes]], self._client.scan(cursor, f"{KEY}*", at_once))
        return following, [CartKey.of_text(name.decode().removeprefix(KEY)) for name in names]

    def drop_opening(self, key: CartKey) -> None:
        """Let whoever reads this cart from its pod at this moment read it again; a stored state stays."""
        self._drop_opening([KEY + key.text], [])

    def _states(self, keys: list[CartKey]) -> list[tuple[bytes | None, bytes | None]]:
        with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hmget(KEY + key.text, ["token", "state"])
            return [(token, state) for token, state in pipeline.execute()]


def _done(key: CartKey, request_key: str) -> str:
    """Return where it is noted that a request was done; empty: the request has no key."""
    return f"{DONE}{key.text}:{request_key}" if request_key else ""
