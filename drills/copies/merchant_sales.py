"""Merchant sales in drills: a user looks at the amounts that a merchant has captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from derived.read_models.merchant_sales import order_in_sales
from drills.answer import Answer, dated
from drills.copies import Decisions
from drills.trading import Sale, merchant_of

if TYPE_CHECKING:
    from drills.scene import Scene
    from drills.system import System


def ask(system: System, sale: Sale) -> Answer:
    """Query what the order adds to the sums of its day."""
    row, age = order_in_sales(system.settings.read_models_dsn, merchant_of(sale.pod), sale.order.order_id)
    return dated([] if row is None else [str(row)], age, sale.pod)


def decide(scene: Scene) -> Callable[[Sale], Decisions]:
    """Make refunds that the stale sums do not show; the wrong decision is a second refund."""

    def refund_twice(sale: Sale) -> Decisions:
        scene.trader.refund(sale)
        return {"giving back what looks taken in": lambda: scene.trader.refund(sale)}

    return refund_twice
