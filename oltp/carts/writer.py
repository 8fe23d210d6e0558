"""The writer: what Valkey has of carts goes to their pod, in batches, and what the pod has more goes back.

A batch is the carts that have waited longest. They are merged into the pod in one transaction, and only then taken out
of the queue, so a writer that is killed repeats at most one batch, which changes nothing. If the pod had more than
Valkey (an order, or changes while Valkey was away), the merged cart goes back to Valkey. One bad cart stops only
itself: what cannot be read or written is put aside, and stays in Valkey.

Belongs here: one round, and the loop of one pod. Does not belong here: both stores.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from contracts.carts import CART_AGE_DAYS, CART_WRITE_MS, CartKey
from contracts.errors import CartUnavailableError, CartUnreadableError, NotFoundError, TieoutError
from contracts.settings import Settings
from oltp.carts.durable_carts import DurableCart, DurableCarts
from oltp.carts.valkey_carts import ChangedError, QueuedCart, ValkeyCarts
from oltp.commands.execute import CommandPod
from oltp.directory import pod_of
from oltp.domain.cart_codec import decoded
from oltp.domain.carts import MILLISECONDS, Cart, is_expired, merge

BATCH = 200
ATTEMPTS_MAX = 20
ROUNDS_PER_BOUND = 4
"""A change waits at most a fourth of the stated time for the next round."""
AWAY_SECONDS_MAX = 5.0

_log = logging.getLogger("tieout.carts")


@dataclass(frozen=True, kw_only=True)
class CartWriter:
    """The writer of one pod. Several may run: they do the same work twice, and nothing wrong."""

    valkey: ValkeyCarts
    pod: CommandPod
    pod_name_of: Callable[[str], str]
    """Merchant id -> the pod in which it lives now, asked anew. For carts of merchants that have moved."""
    age_days: int = CART_AGE_DAYS

    def write_waiting(self) -> int:
        """Write all carts that wait now; return how many were written."""
        total = 0
        while queued := self.valkey.queued(self.pod.pod, BATCH):
            written = self._write(queued)
            total += written
            if len(queued) < BATCH or not written:
                break
        return total

    def bring_back(self) -> int:
        """Merge into Valkey what only the pod has; return how many carts were looked at."""
        ahead = self._durable.ahead(BATCH)
        done = [stored for stored in ahead if self._is_in_valkey(stored)]
        if done:
            self._durable.no_longer_ahead(done)
        return len(ahead)

    def run(self, stop: threading.Event, *, seconds: float = CART_WRITE_MS / 1_000) -> None:
        """Write until `stop`, each change within `seconds`; while a store is away, wait and try again."""
        pause = seconds / ROUNDS_PER_BOUND
        away = 0.0
        while not stop.wait(away or pause):
            try:
                self.write_waiting()
                self.bring_back()
                away = 0.0
            except Exception as error:  # any error: the next round may succeed, and nothing is lost until then
                _log.warning("%s: %s", type(error).__name__, error)
                away = min(AWAY_SECONDS_MAX, max(pause, 2 * away))
        # What was changed until now is in the pod before we end, if it answers.
        with suppress(TieoutError):
            self.write_waiting()

    def _write(self, queued: Iterable[QueuedCart]) -> int:
        """Write these carts, and take what was written out of the queue; return how many left it."""
        coming: dict[CartKey, tuple[QueuedCart, Cart]] = {}
        left = 0
        for item in queued:
            cart = self._read(item)
            if cart is not None:
                coming[item.key] = (item, cart)
            elif item.state is None:
                left += self.valkey.settle(self.pod.pod, item)
        outcome = self._durable.write({key: cart for key, (_, cart) in coming.items()})
        for key, reason in outcome.refused.items():
            self._put_aside(key, reason)
        for key in outcome.elsewhere:
            self._send_after(key)
        for key, merged in outcome.merged.items():
            item, cart = coming[key]
            if merged == cart:
                left += self.valkey.settle(self.pod.pod, item)
            else:
                # It leaves the queue in the next round, which finds both equal.
                self._give_back(key, merged)
                left += 1
        return left + len(outcome.refused) + len(outcome.elsewhere)

    def _send_after(self, key: CartKey) -> None:
        """Put a cart into the queue of the pod in which its merchant lives now."""
        try:
            home = self.pod_name_of(key.merchant_id)
        except NotFoundError as error:
            self._put_aside(key, str(error))
            return
        # A merchant that is moving to this pod may not be among its residents yet; then the cart waits.
        if home != self.pod.pod:
            self.valkey.move(key, self.pod.pod, home)

    def _read(self, item: QueuedCart) -> Cart | None:
        """Return the cart to write; None when there is none: it is gone, cannot be read, or has expired."""
        if item.state is None:
            return None
        try:
            cart = decoded(item.state)
        except CartUnreadableError as error:
            self._put_aside(item.key, str(error))
            return None
        if is_expired(cart, self._now_ms(), self.age_days):
            self.valkey.settle(self.pod.pod, item)
            return None
        return cart

    def _is_in_valkey(self, stored: DurableCart) -> bool:
        """Merge a cart into Valkey's; return whether that is done. What Valkey has not is read from the pod later."""
        if stored.key not in self.valkey.states([stored.key]):
            self.valkey.drop_opening(stored.key)
            return True
        try:
            self._give_back(stored.key, stored.cart)
        except CartUnreadableError:
            return False
        return True

    def _give_back(self, key: CartKey, durable: Cart) -> None:
        """Merge a pod's cart into Valkey's."""
        for _ in range(ATTEMPTS_MAX):
            held = self.valkey.open(key)
            if is_expired(held.cart, self._now_ms(), self.age_days):
                held = held.begun_anew()
            merged = merge(held.cart, durable)
            if merged == held.cart:
                return
            with suppress(ChangedError):
                # With nothing that the pod does not have, it need not be queued.
                self.valkey.store(held, merged, pod=self.pod.pod, is_settled=merged == durable)
                return
        raise CartUnavailableError("A cart is changed too often to merge what its pod has; the next round does.")

    def _put_aside(self, key: CartKey, reason: str) -> None:
        _log.error("Cart %s is put aside: %s", key.text, reason)
        self.valkey.put_aside(key, self.pod.pod)

    @property
    def _durable(self) -> DurableCarts:
        return DurableCarts(pod=self.pod, age_days=self.age_days)

    def _now_ms(self) -> int:
        return int(self.pod.clock().timestamp() * MILLISECONDS)


def writer_of(settings: Settings, pod: CommandPod, valkey: ValkeyCarts) -> CartWriter:
    """Return the writer of a pod of these settings; where a merchant lives is asked of their directory."""
    return CartWriter(
        valkey=valkey,
        pod=pod,
        pod_name_of=lambda merchant_id: pod_of(settings.control_dsn, merchant_id).pod,
        age_days=settings.cart_age_days,
    )
