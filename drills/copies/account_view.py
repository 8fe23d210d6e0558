"""The account view in drills: a customer looks at their orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from derived.read_models.account_view import account_of
from drills.answer import Answer, dated
from drills.copies import Decisions
from drills.trading import Sale, merchant_of

if TYPE_CHECKING:
    from drills.scene import Scene
    from drills.system import System


def ask(system: System, sale: Sale) -> Answer:
    """Query the customer's orders, payments and refunds."""
    account = account_of(system.settings.read_models_dsn, merchant_of(sale.pod), sale.customer_id)
    rows = [*account.orders, *account.payments, *account.refunds]
    return dated([str(row) for row in rows], account.freshness, sale.pod)


def decide(scene: Scene) -> Callable[[Sale], Decisions]:
    """Make refunds that the stale view does not show; the wrong decision is a second refund."""

    def refund_twice(sale: Sale) -> Decisions:
        scene.trader.refund(sale)
        return {"refunding again": lambda: scene.trader.refund(sale)}

    return refund_twice
