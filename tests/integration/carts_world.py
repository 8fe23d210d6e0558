"""Carts of a shop for tests: both stores, each of which can be taken away, and the writer between them.

Belongs here: setting up, and taking a store away. Does not belong here: assertions.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psycopg_pool import ConnectionPool

from contracts.carts import CartKey
from oltp.carts.cart_requests import Carts
from oltp.carts.durable_carts import DurableCarts
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.carts.writer import CartWriter
from oltp.commands.execute import CommandPod
from oltp.domain.carts import Cart, quantities
from stack.ports import LOOPBACK, free_port
from tests.integration.shop import MERCHANT

AGE_DAYS = 90


@dataclass(kw_only=True)
class CartsWorld:
    """Two stores of carts."""

    pod: CommandPod
    url: str
    queued_max: int = 50
    passed: timedelta = timedelta(0)
    server: CartServer = field(init=False)
    carts: Carts = field(init=False)

    def __post_init__(self) -> None:
        self.pod = dataclasses.replace(self.pod, clock=self._later(self.pod.clock()))
        self.server = CartServer(self.url)
        self.carts = self.requests()

    def requests(self) -> Carts:
        """Return the requests as another process has them."""
        return Carts(
            valkey=ValkeyCarts(self.server, queued_max=self.queued_max),
            pod_of=lambda _: self.pod,
            clock=self.pod.clock,
            age_days=AGE_DAYS,
        )

    @property
    def valkey(self) -> ValkeyCarts:
        return self.carts.valkey

    @property
    def writer(self) -> CartWriter:
        return CartWriter(
            valkey=ValkeyCarts(self.server, queued_max=self.queued_max),
            pod=self.pod,
            pod_name_of=lambda _: self.pod.pod,
            age_days=AGE_DAYS,
        )

    @property
    def durable(self) -> DurableCarts:
        return DurableCarts(pod=self.pod, age_days=AGE_DAYS)

    def settle(self) -> None:
        """Let the writer do what it does in a second."""
        for _ in range(3):
            self.writer.write_waiting()
            self.writer.bring_back()

    def stored(self, key: CartKey) -> dict[str, int] | None:
        """Return what the pod has of a cart."""
        cart: Cart | None = self.durable.load(key)
        return None if cart is None else quantities(cart)

    def shown(self, key: CartKey) -> dict[str, int]:
        """Return what a device would show."""
        return quantities(self.carts.view(key).cart)

    @contextmanager
    def without_valkey(self) -> Iterator[None]:
        """Let nothing listen where the server of carts was."""
        before = self.server
        self.server = CartServer(f"redis://{LOOPBACK}:{free_port()}/0")
        self.carts = self.requests()
        yield
        self.server.close()
        self.server = before
        self.carts = self.requests()

    @contextmanager
    def without_pod(self) -> Iterator[None]:
        """Let the pod answer nobody."""
        before = self.pod
        closed: ConnectionPool = ConnectionPool("dbname=nowhere", open=False)
        self.pod = dataclasses.replace(before, connections=closed)
        yield
        self.pod = before
        self.carts = self.requests()

    def _later(self, begun: datetime):
        return lambda: begun + self.passed


def new_key() -> CartKey:
    """Return the key of a cart that nobody has."""
    return CartKey(merchant_id=MERCHANT, cart_id=str(uuid.uuid4()))
