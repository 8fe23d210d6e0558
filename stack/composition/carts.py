"""The carts of a system, put together from its settings: both stores, the writers, and the comparison.

Belongs here: composing these. Does not belong here: when they are done (`stack/upkeep/cart_keeping.py`), the repair
(`repair/serving.py`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from contracts.clock import utc_now
from contracts.errors import SettingsError
from contracts.ownership import CART
from contracts.settings import Settings
from contracts.sightings import Sighting, SightingKind
from oltp.carts.durable_carts import DurableCarts
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.carts.writer import CartWriter, writer_of
from oltp.commands.execute import build_command_pod
from reconcile.cart_comparison import (
    CartDifference,
    CartFindings,
    CartSides,
    CartStore,
    CartSweep,
    compare_carts,
)
from reconcile.copies.cart import DAY_MS
from reconcile.sightings import keep_sightings

KEEPER = "carts"
"""The name by which sightings name the worker of carts."""
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

    def compare(self, sweep: CartSweep | None = None) -> CartFindings:
        """Compare both stores: all carts, or the next part of them."""
        store = _store_of(self.settings, self.pod, self.valkey)
        bound_ms = utc_now().timestamp() * 1_000 - store.age_days * DAY_MS
        return compare_carts(
            store.sides,
            is_expired=lambda touched_ms: touched_ms < bound_ms,
            wait=partial(time.sleep, store.settled_seconds),
            sweep=sweep,
        )

    def tell(self, found: CartFindings) -> None:
        """Keep a sighting of each cart that differs: the reconciler compares it next, and opens a break."""
        with psycopg.connect(self.settings.control_dsn) as connection:
            keep_sightings(connection, [_sighting(self.pod, item) for item in found.differences])


def _sighting(pod: str, item: CartDifference) -> Sighting:
    return Sighting(
        witness=KEEPER,
        kind=SightingKind.UNANNOUNCED,
        pod=pod,
        copy=CART.name,
        place="carts",
        aggregate_id=item.key.cart_id,
        what=f"Cart {item.key.cart_id} of {item.key.merchant_id} is {item.kind}.",
    )


@contextmanager
def cart_store(settings: Settings, pod: str) -> Iterator[CartStore]:
    """Yield both sides of a pod's carts, for a comparison."""
    with closing(CartServer(settings.carts_url)) as server:
        yield _store_of(settings, pod, ValkeyCarts(server, queued_max=settings.carts_queued_max))


def _store_of(settings: Settings, pod: str, valkey: ValkeyCarts) -> CartStore:
    sides = CartSides(
        pod=pod,
        reader_dsn=settings.pod(pod).reader_dsn,
        valkey_page=valkey.page,
        valkey_states=valkey.states,
        waiting=partial(valkey.waiting_of, pod),
    )
    settled_seconds = ROUNDS_WAITED * settings.cart_write_ms / 1_000
    return CartStore(sides=sides, age_days=settings.cart_age_days, settled_seconds=settled_seconds)


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
    writer = writer_of(settings, pod, valkey)
    durable = DurableCarts(pod=pod, age_days=settings.cart_age_days)
    return CartKeeper(settings=settings, pod=name, valkey=valkey, writer=writer, durable=durable)
