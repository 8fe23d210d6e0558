"""Receive a payment: money of a bank transfer or a direct debit is there.

The provider says so, or a person who reads the bank's statement. What the payment waits for and the order owes is
captured; the rest is unallocated. A receipt is known by the provider's name for it, so it counts once.
"""

from __future__ import annotations

from contracts.events.order import OrderState
from contracts.events.payment import PaymentCapture, PaymentState
from contracts.limits import AmountMinor, Note, Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.orders import owed_minor
from oltp.domain.pending_payments import Step, receive
from oltp.domain.provider_calls import CallKind, in_flight_minor
from oltp.store.payments import captured_of_order, lock_with_order
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class ReceivePayment(Command[PaymentState], frozen=True, kw_only=True):
    """Record that `amount_minor` has come for a payment, under the provider's name for the receipt.

    Answers with the payment; ConflictError for a receipt that is recorded, or a payment of a card.
    """

    payment_id: Uuid
    provider_reference: Reference
    amount_minor: AmountMinor
    reason: Note = ""
    """Why it came, if it is not what was waited for; in the words of the provider or of the person who records it."""

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment with the money captured or unallocated."""
        order, payment = lock_with_order(tx, self.merchant_id, self.payment_id)
        steps = coming_in(
            tx,
            order,
            payment,
            provider_reference=self.provider_reference,
            amount_minor=self.amount_minor,
            reason=self.reason,
        )
        for after, event in steps:
            payment = save(tx, payment, after, event)
        return payment


def coming_in(
    tx: CommandTransaction,
    order: OrderState,
    payment: PaymentState,
    *,
    provider_reference: str,
    amount_minor: int,
    reason: str,
) -> list[Step]:
    """Return the steps by which a receipt comes in for a payment, which is locked after its order; nothing is written.

    ConflictError for a receipt that the payment has already.
    """
    ask_captured = captured_of_order(tx, order.order_id)
    ask_calls = calls_of_order(tx, order.merchant_id, order.order_id)
    captured_minor = ask_captured() + in_flight_minor(ask_calls(), CallKind.CAPTURE)
    capture = PaymentCapture(
        payment_capture_id=tx.new_id(),
        amount_minor=amount_minor,
        provider_reference=provider_reference,
        captured_at=tx.occurred_at,
    )
    return receive(
        payment,
        capture=capture,
        movement_id=tx.new_id(),
        owed_left_minor=max(owed_minor(order) - captured_minor, 0),
        reason=reason,
    )
