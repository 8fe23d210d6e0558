"""Reverse a refund: it was completed, and then the money came back to the provider, e.g. from a closed account.

The customer does not have the money, so it counts as refunded no more: payment and lines may be refunded again, and the
merchant is owed it again. What the refund did to goods stays: units that came back are in stock, and units that were
withdrawn are not shipped.
"""

from __future__ import annotations

from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.events.refund import RefundEvent, RefundState
from contracts.limits import Note, Uuid
from oltp.commands.execute import Command
from oltp.domain.payments import take_back_refund
from oltp.domain.refunds import reverse_refund
from oltp.outbox import Change
from oltp.store.rows import ask, load, save_all
from oltp.transaction import CommandTransaction


class ReverseRefund(Command[RefundState], frozen=True, kw_only=True):
    """Record that the money of a completed refund came back; the refund has then failed.

    Answers with the refund; IllegalTransitionError when it is not completed, ConflictError when it was paid onto a gift
    card.
    """

    refund_id: Uuid
    failure_reason: Note

    def run(self, tx: CommandTransaction) -> RefundState:
        """Return the failed refund; its payment's refunded amount goes down in the same transaction."""
        # Lock order and payment first, as every command does: the database trigger that checks a refund locks both.
        found = load(tx, RefundState, self.merchant_id, self.refund_id, lock=False)
        ask_order = ask(tx, OrderState, self.merchant_id, found.order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, found.payment_id)
        ask_refund = ask(tx, RefundState, self.merchant_id, self.refund_id)
        ask_order()
        payment, refund = ask_payment(), ask_refund()
        failed = reverse_refund(refund, self.failure_reason, tx.occurred_at)
        after = take_back_refund(payment, refund.amount_minor)
        save_all(
            tx,
            [
                Change(before=refund, after=failed, event_type=RefundEvent.REFUND_FAILED),
                Change(before=payment, after=after, event_type=PaymentEvent.PAYMENT_REFUND_FAILED),
            ],
        )
        return failed
