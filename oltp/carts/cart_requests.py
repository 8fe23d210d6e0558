"""What a shop asks of a cart: look, add, remove, set a quantity, merge at sign-in.

A request goes to Valkey. A cart that is not there is read from its pod first. When Valkey is away, the request goes to
the pod; when the pod is away, carts in Valkey go on, and what the pod has is merged when it is back. When both are
away, there is one error.

A request may carry a key; repeated within an hour, it changes nothing. The key is known to Valkey only: a request whose
answer was lost, and which is repeated while Valkey is away or after Valkey has lost the key, may count twice. The
shopper sees that before anything is paid.

Belongs here: these requests. Does not belong here: the stores (`valkey_carts.py`, `durable_carts.py`), orders
(`checkout.py`).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from contracts.carts import CART_AGE_DAYS, DEVICE_ID, CartKey
from contracts.clock import Clock, utc_now
from contracts.errors import CartUnavailableError, ConflictError, IdempotencyConflictError
from contracts.limits import QUANTITY, QUANTITY_OR_NONE, SKU, STORED_NAME, UUID
from oltp.carts.actors import actor_of
from oltp.carts.durable_carts import DurableCarts, PodAwayError
from oltp.carts.valkey_carts import ChangedError, HeldCart, RepeatedError, ValkeyCarts
from oltp.carts.valkey_server import ServerAwayError
from oltp.commands.checking import check_value
from oltp.commands.execute import CommandPod
from oltp.domain import carts
from oltp.domain.carts import EMPTY, MILLISECONDS, Cart, Vector, is_expired, within_limits

ATTEMPTS_MAX = 50
"""How often a change is tried anew because others changed the cart meanwhile."""
AWAY_SECONDS = 1.0
"""For so long we do not ask a store again that was away."""

Step = Callable[[Cart, str], Cart]
"""(Cart, the actor's name) -> the next state."""


@dataclass(frozen=True, kw_only=True)
class CartView:
    """A cart as a request found or left it."""

    cart: Cart
    is_complete: bool = True
    """False: its pod is away, and what only the pod has is not in it yet."""
    is_replayed: bool = False
    """Whether an earlier request with the same key has made the change; the cart is as it is now."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A change, and the key of its request; an empty key: it is not known again."""

    request_key: str
    fields: Mapping[str, object]

    @property
    def text(self) -> str:
        """What is kept of it: a short hash of each field."""
        hashes = {
            name: hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=8).hexdigest()
            for name, value in self.fields.items()
        }
        return msgspec.json.encode(hashes).decode()

    def require_same(self, known: str) -> None:
        """Raise IdempotencyConflictError unless the request that is known under the key had asked for the same."""
        before, now = (msgspec.json.decode(text or "{}", type=dict[str, str]) for text in (known, self.text))
        differing = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if differing and before:
            raise IdempotencyConflictError(
                f"Idempotency key {self.request_key!r} was used for another change of this cart; use a new one.",
                fields=differing,
            )


@dataclass(kw_only=True)
class _Away:
    """Which store was found away a moment ago. Several threads may note it; the last one counts."""

    until: dict[str, float] = field(default_factory=dict)

    def note(self, store: str) -> None:
        self.until[store] = time.monotonic() + AWAY_SECONDS

    def has(self, store: str) -> bool:
        return time.monotonic() < self.until.get(store, 0.0)


@dataclass(frozen=True, kw_only=True)
class Carts:
    """All requests on carts. Thread safe."""

    valkey: ValkeyCarts
    pod_of: Callable[[str], CommandPod]
    """Merchant id -> the pod in which it lives. Raises NotFoundError."""
    clock: Clock = utc_now
    age_days: int = CART_AGE_DAYS
    _away: _Away = field(default_factory=_Away)

    def view(self, key: CartKey) -> CartView:
        """Return a cart; an empty one when nobody has put anything in."""
        try:
            held, is_complete = self._opened(key)
        except ServerAwayError as error:
            return CartView(cart=self._of_pod(key, error) or EMPTY)
        if not held.is_held and is_complete and held.cart != EMPTY:
            with suppress(ChangedError, CartUnavailableError):
                self.valkey.store(held, held.cart, pod=self.pod_of(key.merchant_id).pod, is_settled=True)
        return CartView(cart=held.cart, is_complete=is_complete)

    def add(self, key: CartKey, device_id: str, sku: str, quantity: int, *, request_key: str = "") -> CartView:
        """Add units of a SKU. Whether the merchant sells it is asked when the cart is priced."""
        check_value("sku", sku, SKU)
        check_value("quantity", quantity, QUANTITY)
        at_ms = self._now_ms()
        fields = {"do": "add", "device_id": device_id, "sku": sku, "quantity": quantity}
        return self._change(
            key,
            device_id,
            lambda cart, actor: carts.add(cart, actor, sku, quantity, at_ms),
            _Asked(request_key=request_key, fields=fields),
        )

    def remove(
        self, key: CartKey, device_id: str, sku: str, *, seen: Vector | None = None, request_key: str = ""
    ) -> CartView:
        """Take a SKU out, as far as the sender has `seen` the cart; None: as it is now."""
        return self.set_quantity(key, device_id, sku, 0, seen=seen, request_key=request_key)

    def set_quantity(
        self,
        key: CartKey,
        device_id: str,
        sku: str,
        quantity: int,
        *,
        seen: Vector | None = None,
        request_key: str = "",
    ) -> CartView:
        """Put `quantity` units in place of those that the sender has `seen`; None: of all that are there now."""
        check_value("sku", sku, STORED_NAME)
        check_value("quantity", quantity, QUANTITY_OR_NONE)
        at_ms = self._now_ms()

        def step(cart: Cart, actor: str) -> Cart:
            return carts.set_quantity(cart, actor, sku, quantity, cart.seen if seen is None else seen, at_ms)

        fields = {"do": "set", "device_id": device_id, "sku": sku, "quantity": quantity, "seen": seen}
        return self._change(key, device_id, step, _Asked(request_key=request_key, fields=fields))

    def sign_in(self, anonymous: CartKey, known: CartKey, *, request_key: str = "") -> CartView:
        """Merge a visitor's anonymous cart into the customer's cart. Repeated, it changes nothing.

        While the pod is away, only what Valkey has is merged. The anonymous cart stays, and expires: a device that does
        not know of the sign-in may still change it, and the next sign-in merges that.
        """
        theirs = self.view(anonymous).cart
        return self._change(
            known,
            "",
            lambda cart, _: within_limits(carts.merge(cart, theirs)),
            _Asked(request_key=request_key, fields={"do": "merge", "from_cart_id": anonymous.cart_id}),
        )

    def merge(self, key: CartKey, other: Cart) -> CartView:
        """Merge a state of the same cart that comes from elsewhere, as an order's or a repair's."""
        return self._change(key, "", lambda cart, _: carts.merge(cart, other), _Asked(request_key="", fields={}))

    def write_through(self, key: CartKey) -> None:
        """Write what Valkey has of a cart to its pod now. Raises PodAwayError; does nothing while Valkey is away."""
        if self._away.has(_VALKEY):
            return
        with suppress(ServerAwayError):
            held = self.valkey.open(key)
            if held.is_held and not self._is_expired(held.cart):
                self._durable(key).write({key: held.cart})

    def _change(self, key: CartKey, device_id: str, step: Step, asked: _Asked) -> CartView:
        check_value("cart_id", key.cart_id, UUID)
        if device_id:
            check_value("device_id", device_id, DEVICE_ID)
        for _ in range(ATTEMPTS_MAX):
            try:
                held, is_complete = self._opened(key, asked.request_key)
            except ServerAwayError as error:
                return self._change_in_pod(key, device_id, step, error)
            if held.asked is not None:
                # Before the change is tried: what was added once may not fit a second time.
                asked.require_same(held.asked)
                return CartView(cart=held.cart, is_complete=is_complete, is_replayed=True)
            changed = step(held.cart, actor_of(device_id, held.incarnation))
            try:
                self._store(held, changed, asked)
            except (ChangedError, RepeatedError):
                continue
            return CartView(cart=changed, is_complete=is_complete)
        raise ConflictError("Others change this cart at the same time; try again.")

    def _store(self, held: HeldCart, changed: Cart, asked: _Asked) -> None:
        if changed != held.cart:
            pod, text = self.pod_of(held.key.merchant_id).pod, asked.text if asked.request_key else ""
            self.valkey.store(held, changed, pod=pod, request_key=asked.request_key, asked=text)
        elif asked.request_key:
            with suppress(CartUnavailableError):  # nothing was to be changed, so a repeated request changes nothing
                self.valkey.remember(held.key, asked.request_key, asked.text)

    def _opened(self, key: CartKey, request_key: str = "") -> tuple[HeldCart, bool]:
        """Return Valkey's cart, or the pod's if Valkey has none, and whether both were asked that had to be."""
        if self._away.has(_VALKEY):
            raise ServerAwayError("The server of carts was away a moment ago.")
        try:
            held = self.valkey.open(key, request_key=request_key)
        except ServerAwayError:
            self._away.note(_VALKEY)
            raise
        if held.is_held and not self._is_expired(held.cart):
            return held, True
        # It begins anew, here or from what its pod has.
        held = held.begun_anew()
        try:
            return replace(held, cart=self._loaded(key) or EMPTY), True
        except PodAwayError:
            return held, False

    def _loaded(self, key: CartKey) -> Cart | None:
        pod = self.pod_of(key.merchant_id).pod
        if self._away.has(pod):
            raise PodAwayError(f"{pod}'s database was away a moment ago.")
        try:
            return self._durable(key).load(key)
        except PodAwayError:
            self._away.note(pod)
            raise

    def _change_in_pod(self, key: CartKey, device_id: str, step: Step, reason: ServerAwayError) -> CartView:
        try:
            return CartView(
                cart=self._durable(key).change(
                    key, lambda cart, incarnation: step(cart, actor_of(device_id, incarnation))
                )
            )
        except PodAwayError as error:
            raise _both_away(reason, error) from None

    def _of_pod(self, key: CartKey, reason: ServerAwayError) -> Cart | None:
        try:
            return self._durable(key).load(key)
        except PodAwayError as error:
            raise _both_away(reason, error) from None

    def _durable(self, key: CartKey) -> DurableCarts:
        return DurableCarts(pod=self.pod_of(key.merchant_id), age_days=self.age_days)

    def _is_expired(self, cart: Cart) -> bool:
        return is_expired(cart, self._now_ms(), self.age_days)

    def _now_ms(self) -> int:
        return int(self.clock().timestamp() * MILLISECONDS)


_VALKEY = "valkey"


def _both_away(one: ServerAwayError, other: PodAwayError) -> CartUnavailableError:
    return CartUnavailableError(f"Carts cannot be served at this moment; try again. {one} {other}")
