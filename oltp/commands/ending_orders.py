"""Ending an order whose payment failed or was waited for in vain, in the transaction that ends the payment.

Belongs here: whether the order ends with its payment, and ending it. Does not belong here: the payment.

The order ends as one does that a customer cancels: its units go back to stock. It stays when something was shipped,
when money is there or under way, or when another payment may still pay it; then a person decides.
"""

from __future__ import annotations

from contracts.events.order import OrderState, OrderStatus
from contracts.events.payment import PaymentState
from contracts.events.stock import ReservationState
from oltp.commands.cancel_order import save_cancelled
from oltp.domain.orders import cancel_order
from oltp.domain.payments import LIVE
from oltp.domain.provider_calls import MAY_PAY
from oltp.store.payments import line_refunds
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask_by
from oltp.transaction import CommandTransaction


def end_unpaid(tx: CommandTransaction, order: OrderState) -> None:
    """Cancel every open unit of an order, which is locked, if nothing of it is paid, shipped, or may still be paid."""
    if order.status is not OrderStatus.PLACED:
        return
    ask_held = ask_by(tx, ReservationState, order.merchant_id, "order_id", order.order_id)
    ask_payments = ask_by(tx, PaymentState, order.merchant_id, "order_id", order.order_id, lock=False)
    ask_calls = calls_of_order(tx, order.merchant_id, order.order_id)
    ask_refunds = line_refunds(tx, order.order_id)
    refunds = ask_refunds()
    is_being_paid = any(call.kind in MAY_PAY for call in ask_calls())
    if refunds or is_being_paid or any(payment.status in LIVE for payment in ask_payments()):
        return
    save_cancelled(tx, order, cancel_order(order, None), refunds, ask_held)
