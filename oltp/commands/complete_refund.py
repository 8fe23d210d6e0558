"""Complete a refund: the provider gives the money back; what came back, or was never shipped, can be sold again.

Order, payment and refund stay locked while the provider is asked, so that a refund which is failed at the same moment
moves no money. A refund that the provider declines is recorded as failed. The provider knows a refund by its id, not by
the command's key: whoever completes it after a transaction that failed, under whatever key, gets the same reference
and moves no money twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from contracts.errors import GatewayDeclinedError
from contracts.events.order import OrderEvent, OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.events.refund import RefundEvent, RefundState
from contracts.events.stock import ReservationEvent, ReservationState, StockMovementKind
from contracts.limits import Uuid
from oltp.commands.execute import Command
from oltp.domain.orders import units_released, withdraw_refunded
from oltp.domain.payments import refund_payment
from oltp.domain.refunds import complete_refund, fail_refund, with_settled
from oltp.domain.reservations import release
from oltp.gateway import provider_key
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.payments import captured_of_order, line_refunds
from oltp.store.rows import ask, ask_by, load, save, save_all
from oltp.transaction import CommandTransaction

_RETURNED = """
select order_lines.variant_id::text, refund_lines.quantity, (
    select fulfillments.location_id
    from oltp.fulfillment_lines
    inner join oltp.fulfillments using (fulfillment_id)
    where fulfillment_lines.order_line_id = refund_lines.order_line_id
    order by fulfillments.shipped_at desc, fulfillments.fulfillment_id desc
    limit 1
)
from oltp.refund_lines
inner join oltp.order_lines using (order_line_id)
where refund_lines.refund_id = %s and refund_lines.is_restocked
"""
"""Units that came back, per refund line: variant, units, and the location that shipped the line last."""


class CompleteRefund(Command[RefundState], frozen=True, kw_only=True):
    """Give the money of a requested refund back; restocked lines return to the location that shipped them last.

    Units that now will not be shipped are withdrawn from the order and held no longer; an order of which nothing is
    left to ship has ended.
    """

    ASKS_PROVIDER: ClassVar[bool] = True

    refund_id: Uuid

    def run(self, tx: CommandTransaction) -> RefundState:
        """Return the refund, completed or (declined by the provider) failed."""
        found = load(tx, RefundState, self.merchant_id, self.refund_id, lock=False)
        ask_order = ask(tx, OrderState, self.merchant_id, found.order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, found.payment_id)
        ask_refund = ask(tx, RefundState, self.merchant_id, self.refund_id)
        ask_held = ask_by(tx, ReservationState, self.merchant_id, "order_id", found.order_id)
        ask_refunds = line_refunds(tx, found.order_id)
        ask_captured = captured_of_order(tx, found.order_id)
        order, payment, refund = ask_order(), ask_payment(), ask_refund()
        # Refuse before money moves what would be refused after.
        complete_refund(refund, None, tx.occurred_at)
        after = refund_payment(payment, refund.amount_minor)
        try:
            reference = _give_back(tx, payment, refund)
        except GatewayDeclinedError as error:
            return save(tx, refund, fail_refund(refund, str(error)), RefundEvent.REFUND_FAILED)
        completed = complete_refund(refund, reference, tx.occurred_at)
        refunds = ask_refunds()
        settled = with_settled(refunds, refund)
        withdrawn = withdraw_refunded(order, settled, captured_minor=ask_captured())
        freed = units_released((order, refunds), (withdrawn or order, settled))
        steps = [(held, release(held, freed)) for held in ask_held() if freed]
        save_all(
            tx,
            [
                *_order_changes(order, withdrawn),
                Change(before=refund, after=completed, event_type=RefundEvent.REFUND_COMPLETED),
                Change(before=payment, after=after, event_type=PaymentEvent.PAYMENT_REFUNDED),
                *(
                    Change(before=old, after=new, event_type=ReservationEvent.RESERVATION_RELEASED)
                    for old, new in steps
                ),
            ],
        )
        _move_stock(tx, refund, steps)
        return completed


def _order_changes(order: OrderState, withdrawn: OrderState | None) -> list[Change]:
    if withdrawn is None:
        return []
    return [Change(before=order, after=withdrawn, event_type=OrderEvent.ORDER_UNITS_WITHDRAWN)]


def _move_stock(
    tx: CommandTransaction, refund: RefundState, steps: Sequence[tuple[ReservationState, ReservationState]]
) -> None:
    """Take back what came back, location by location in their order, and let go what is held no longer."""
    for location_id, units in sorted(_returned_units(tx, refund).items()):
        stock.move(
            tx,
            refund.merchant_id,
            location_id,
            StockMovementKind.RETURNED,
            units,
            refund.reason,
            order_id=refund.order_id,
        )
    if steps:
        stock.follow_all(tx, steps)


def _give_back(tx: CommandTransaction, payment: PaymentState, refund: RefundState) -> str | None:
    """Ask the provider; a refund of nothing (units that cost nothing) needs no provider."""
    if refund.amount_minor == 0:
        return None
    return tx.gateway.refund(
        idempotency_key=provider_key(refund.merchant_id, f"refund/{refund.refund_id}"),
        authorization_reference=payment.provider_reference,
        amount_minor=refund.amount_minor,
        currency=refund.currency,
    )


def _returned_units(tx: CommandTransaction, refund: RefundState) -> dict[str, dict[str, int]]:
    """Return units by location and variant."""
    units: dict[str, dict[str, int]] = {}
    if not any(line.is_restocked for line in refund.lines):
        return units
    for variant_id, quantity, location_id in tx.query(_RETURNED, [refund.refund_id]).fetchall():
        by_variant = units.setdefault(location_id, {})
        by_variant[variant_id] = by_variant.get(variant_id, 0) + quantity
    return units
