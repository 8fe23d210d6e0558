"""The carts of a system, put together from its settings: both stores, the writers, the comparison and its repair.

A difference is repaired by a merge: the cart is put into its pod's queue, and the writer merges both ways, as it does
with every change. Then it is compared again. What a merge cannot repair is left as it is, for a person.

Belongs here: composing these. Does not belong here: when they are done (`stack/upkeep/cart_keeping.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from contracts.carts import CartKey
from contracts.clock import utc_now
from contracts.errors import SettingsError
from contracts.settings import Settings
from contracts.verdicts import Verdict
from oltp.carts.durable_carts import DurableCarts
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.carts.writer import CartWriter
from oltp.commands.execute import build_command_pod
from oltp.directory import pod_of
from reconcile.cart_comparison import MERGED, CartFindings, CartSides, CartSweep, compare_carts

DAY_MS = 86_400_000
ROUNDS_WAITED = 3
"""How often the time of a write-through passes before a cart that differs is looked at again."""


@dataclass(frozen=True, kw_only=True)
class CartKeeper:
    """The carts of one pod with everything that keeps its two stores equal."""

    settings: Settings
    pod: str
    valkey: ValkeyCarts
    writer: CartWriter
    durable: DurableCarts

    def compare(self, sweep: CartSweep | None = None, keys: Sequence[CartKey] | None = None) -> CartFindings:
        """Compare both stores: all carts, or the next part of them, or these."""
        sides = CartSides(
            pod=self.pod,
            reader_dsn=self.settings.pod(self.pod).reader_dsn,
            valkey_page=self.valkey.page,
            valkey_states=self.valkey.states,
        )
        bound_ms = utc_now().timestamp() * 1_000 - self.settings.cart_age_days * DAY_MS
        waited = ROUNDS_WAITED * self.settings.cart_write_ms / 1_000
        return compare_carts(
            sides,
            is_expired=lambda touched_ms: touched_ms < bound_ms,
            wait=partial(time.sleep, waited),
            sweep=sweep,
            keys=keys,
        )

    def found(self, sweep: CartSweep | None = None) -> CartFindings:
        """Compare the next part of the carts, or all, and those that an earlier repair has left to a person."""
        found = self.compare(sweep)
        left = self.valkey.left(self.pod)
        if found.verdict is Verdict.UNKNOWN or not left:
            return found
        differing = {item.key: item for item in found.differences}
        again = self.compare(keys=sorted(left))
        differing |= {item.key: item for item in again.differences}
        if not differing:
            self.valkey.note_left(self.pod, {})
            return found
        return replace(found, verdict=Verdict.INCONSISTENT, differences=tuple(differing.values()))

    def repair(self, found: CartFindings) -> CartFindings:
        """Merge what a merge repairs, compare all that differed again, and note what is left to a person."""
        merged = [item for item in found.differences if item.kind in MERGED]
        for item in merged:
            self.valkey.queue(item.key, self.pod)
        if merged:
            self.writer.write_waiting()
            # What went back to Valkey leaves the queue in the next round.
            self.writer.write_waiting()
        after = self.compare(keys=[item.key for item in found.differences]) if merged else found
        if after.verdict is not Verdict.UNKNOWN:
            self.valkey.note_left(self.pod, {item.key: item.kind.value for item in after.differences})
        return after


@contextmanager
def cart_keepers(settings: Settings) -> Iterator[list[CartKeeper]]:
    """Yield a keeper of every pod. Raises SettingsError when no server of carts is set."""
    if not settings.carts_url:
        raise SettingsError("Setting TIEOUT_CARTS_URL is missing: this system has no server of carts.")
    with closing(CartServer(settings.carts_url)) as server:
        keepers = [_keeper(settings, name.pod, server) for name in settings.pods]
        try:
            yield keepers
        finally:
            for keeper in keepers:
                keeper.durable.pod.close()


def _keeper(settings: Settings, name: str, server: CartServer) -> CartKeeper:
    pod = build_command_pod(settings.pod(name), connections_max=2)
    valkey = ValkeyCarts(server, queued_max=settings.carts_queued_max)
    writer = CartWriter(
        valkey=valkey,
        pod=pod,
        pod_name_of=lambda merchant_id: pod_of(settings.control_dsn, merchant_id).pod,
        age_days=settings.cart_age_days,
    )
    durable = DurableCarts(pod=pod, age_days=settings.cart_age_days)
    return CartKeeper(settings=settings, pod=name, valkey=valkey, writer=writer, durable=durable)
