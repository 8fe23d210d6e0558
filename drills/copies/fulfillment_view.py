"""The fulfillment view in drills: a warehouse worker ships the listed orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from derived.read_models.fulfillment_view import open_fulfillments
from drills.answer import Answer, dated
from drills.copies import Decisions
from drills.trading import Sale, merchant_of

if TYPE_CHECKING:
    from drills.scene import Scene
    from drills.system import System

LINES_MAX = 100_000


def ask(system: System, sale: Sale) -> Answer:
    """Query the order in the list."""
    found = open_fulfillments(system.settings.read_models_dsn, merchant_of(sale.pod), lines_max=LINES_MAX)
    lines = [str(line) for line in found.lines if line.order_id == sale.order.order_id]
    return dated(lines, found.freshness, sale.pod)


def decide(scene: Scene) -> Callable[[Sale], Decisions]:
    """Make cancellations and shipments that the stale list lacks; the wrong decision is to ship the listed units."""
    unpaid = {pod: scene.trader.place_unpaid(pod) for pod in scene.pods}

    def ship_all(sale: Sale) -> Decisions:
        pod = sale.pod
        scene.trader.cancel(pod, unpaid[pod])
        scene.trader.ship(pod, sale.order)
        return {
            "shipping what was cancelled": lambda: scene.trader.ship(pod, unpaid[pod]),
            "shipping again": lambda: scene.trader.ship(pod, sale.order),
        }

    return ship_all
