"""The cart in drills: shoppers put something in on several devices, and check out what they have seen.

Belongs here: a shopper of whom every addition is known, and what is done to the two stores. Does not belong here: steps
for every copy (`drills/cells.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from contracts.carts import CartKey
from contracts.drills import Promise
from contracts.settings import Settings
from contracts.text import counted
from contracts.waiting import comes_true
from drills import decisions, probes
from drills.system import CARTS_SERVER
from drills.trading import LOCATION, SKU, merchant_of
from oltp.carts.cart_requests import Carts
from oltp.carts.checkout import check_out
from oltp.carts.durable_carts import DurableCarts
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer
from oltp.commands.check_out_cart import CheckOutCart, ConfirmedLine
from oltp.commands.execute import CommandPod, build_command_pod
from oltp.domain.carts import quantities

if TYPE_CHECKING:
    from drills.scene import Scene

SETTLED_SECONDS = 30.0
CARTS_EACH = 3
"""Carts of each pod that are filled before, and again while it is broken."""
LINE_MICRO = 9_990_000


@dataclass(kw_only=True)
class Shopper:
    """Fills carts, and knows what must be in them."""

    settings: Settings
    expected: dict[CartKey, dict[str, int]] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)
    _pods: dict[str, CommandPod] = field(default_factory=dict)
    carts: Carts = field(init=False)

    def __post_init__(self) -> None:
        """Connect to nothing yet: the pools and the server are asked at first use."""
        for pod in self.settings.pods:
            self._pods[merchant_of(pod.pod)] = self._open.enter_context(build_command_pod(pod, connections_max=2))
        server = self._open.enter_context(closing(CartServer(self.settings.carts_url)))
        valkey = ValkeyCarts(server, queued_max=self.settings.carts_queued_max)
        self.carts = Carts(
            valkey=valkey, pod_of=lambda merchant_id: self._pods[merchant_id], age_days=self.settings.cart_age_days
        )

    def close(self) -> None:
        """Close the connections."""
        self._open.close()

    def fill(self, pod: str) -> CartKey:
        """Put one unit into a new cart; what was acknowledged must be in it for ever."""
        key = CartKey(merchant_id=merchant_of(pod), cart_id=str(uuid.uuid4()))
        self.carts.add(key, "phone", SKU, 1)
        self.carts.write_through(key)
        self._expect(key)
        return key

    def add(self, key: CartKey, device: str) -> None:
        """Put one more unit into a cart, and leave it to the writer."""
        self.carts.add(key, device, SKU, 1)
        self._expect(key)

    def take_out(self, key: CartKey, device: str) -> None:
        """Take everything out of a cart."""
        self.carts.remove(key, device, SKU)
        self.expected[key] = {}

    def shown(self, key: CartKey) -> dict[str, int]:
        """Return what a device shows."""
        return quantities(self.carts.view(key).cart)

    def stored(self, key: CartKey) -> dict[str, int]:
        """Return what the pod has."""
        pod = self._pods[key.merchant_id]
        found = DurableCarts(pod=pod, age_days=self.settings.cart_age_days).load(key)
        return {} if found is None else quantities(found)

    def check_out(self, pod: CommandPod, key: CartKey, quantity: int) -> object:
        """Order so many units, as a device has shown them."""
        from oltp.commands.execute import execute

        command = CheckOutCart(
            merchant_id=key.merchant_id,
            cart_id=key.cart_id,
            number=1,
            confirmed=[ConfirmedLine(sku=SKU, quantity=quantity, unit_price_micro=LINE_MICRO)],
            total_minor=quantity * LINE_MICRO // 10_000,
            order_number=f"DRILL-{uuid.uuid4().hex[:12]}",
            customer_id=None,
            location_id=LOCATION,
            source="drill",
        )
        return check_out(self.carts, command, lambda: execute(pod, command, idempotency_key=f"drill/{uuid.uuid4()}"))

    def pod_of(self, key: CartKey) -> CommandPod:
        """Return the pod of a cart."""
        return self._pods[key.merchant_id]

    def _expect(self, key: CartKey) -> None:
        units = self.expected.setdefault(key, {})
        units[SKU] = units.get(SKU, 0) + 1


def _shopping(scene: Scene) -> tuple[Shopper, dict[str, list[CartKey]]]:
    """Return a shopper with some carts in every pod, which both stores have."""
    shopper = Shopper(settings=scene.system.settings)
    keys = {pod: [shopper.fill(pod) for _ in range(CARTS_EACH)] for pod in scene.pods}
    for pod in scene.pods:
        scene.require(lambda pod=pod: scene.store.standing(pod).cut == 1, f"carts of {pod} still wait")  # type: ignore[misc]
    return shopper, keys


def replay(scene: Scene) -> None:
    """Replay: Valkey's server of carts is emptied; every cart comes back from its pod."""
    states = scene.system.worker_states()
    shopper, keys = _shopping(scene)
    with closing(shopper):
        scene.breaks()
        with closing(CartServer(scene.system.settings.carts_url)) as server:
            before = server.client.dbsize()
            server.client.flushall()
            left = sum(1 for _ in server.client.scan_iter("cart:*"))
        scene.note(
            Promise.IS_GONE,
            "carts in Valkey",
            expected="something there before, no cart left",
            seen=f"{counted(before, 'key')} before, {counted(left, 'cart')} left",
            is_ok=before > 0 and left == 0,
        )
        _serves(scene, shopper, keys)
        probes.trade(scene)
        _go_on(shopper, keys)
        probes.comes_back(scene, states)
        _prove(scene, shopper)


def fall_behind(scene: Scene) -> None:
    """Lag: the writer is stopped while carts change; they are late, not wrong, and written when it is back."""
    shopper, keys = _shopping(scene)
    with closing(shopper):
        scene.stop_copy()
        _go_on(shopper, keys)
        _serves(scene, shopper, keys)
        probes.trade(scene)
        probes.lag_is_reported(scene)
        probes.late_is_not_wrong(scene)
        scene.start_copy()
        _prove(scene, shopper)


def read_stale(scene: Scene) -> None:
    """Stale read: one device takes something out, another orders what it still shows; so it is told, not ordered."""
    shopper, keys = _shopping(scene)
    with closing(shopper):
        scene.stop_copy()
        for pod in scene.pods:
            emptied, twice, *_ = keys[pod]
            _serves(scene, shopper, {pod: [emptied, twice]})
            shopper.take_out(emptied, "laptop")
            shopper.check_out(shopper.pod_of(twice), twice, 1)
            shopper.expected[twice] = {}
            decisions.refuses(scene, pod, _wrong(shopper, emptied, twice))
        scene.start_copy()
        _prove(scene, shopper)


def _wrong(shopper: Shopper, emptied: CartKey, twice: CartKey) -> Mapping[str, Callable[[], object]]:
    return {
        "ordering what another device took out": lambda: shopper.check_out(shopper.pod_of(emptied), emptied, 1),
        "ordering a cart twice": lambda: shopper.check_out(shopper.pod_of(twice), twice, 1),
    }


def lose_server(scene: Scene) -> None:
    """Source outage: Valkey's server of carts is away; shoppers go on with what the pods have."""
    states = scene.system.worker_states()
    shopper, keys = _shopping(scene)
    with closing(shopper):
        scene.system.kill_server(CARTS_SERVER)
        scene.breaks()
        probes.trade(scene)
        probes.outage_is_reported(scene, scene.copy_states)
        _serves(scene, shopper, keys)
        _go_on(shopper, keys)
        scene.system.start_server(CARTS_SERVER)
        probes.comes_back(scene, states)
        _prove(scene, shopper)


def _go_on(shopper: Shopper, keys: Mapping[str, list[CartKey]]) -> None:
    """Add on another device to carts that are there, and fill new ones."""
    for pod, known in keys.items():
        for key in known:
            shopper.add(key, "laptop")
        shopper.add(CartKey(merchant_id=merchant_of(pod), cart_id=str(uuid.uuid4())), "tv")


def _serves(scene: Scene, shopper: Shopper, keys: Mapping[str, list[CartKey]]) -> None:
    """Note whether devices show what was put in."""
    for pod, known in keys.items():
        try:
            right = sum(shopper.shown(key) == shopper.expected[key] for key in known)
            seen, is_ok = f"{right} of {counted(len(known), 'cart')} as they were filled", right == len(known)
        except Exception as error:  # any exception means that the cart was not served
            seen, is_ok = f"{type(error).__name__}: {error}", False
        scene.note(Promise.SERVES_WHAT_IT_HAS, f"carts of {pod}", expected="all", seen=seen, is_ok=is_ok)


def _prove(scene: Scene, shopper: Shopper) -> None:
    """Catch up, compare both stores, and count what is in the carts."""
    scene.catch_up()
    scene.compare_equal()
    for pod in scene.pods:
        known = [key for key in shopper.expected if key.merchant_id == merchant_of(pod)]
        comes_true(lambda known=known: _right(shopper, known) == len(known), seconds=SETTLED_SECONDS)  # type: ignore[misc]
        right = _right(shopper, known)
        scene.note(
            Promise.NOTHING_LOST_OR_DOUBLE,
            pod,
            expected=f"every acknowledged addition once, in both stores, in {counted(len(known), 'cart')}",
            seen=f"{right} right",
            is_ok=bool(known) and right == len(known),
        )


def _right(shopper: Shopper, keys: list[CartKey]) -> int:
    return sum(shopper.shown(key) == shopper.expected[key] == shopper.stored(key) for key in keys)
