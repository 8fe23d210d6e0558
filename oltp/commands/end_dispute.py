"""End a dispute: the provider gives the held money back, or the customer keeps it."""

from __future__ import annotations

from contracts.events.payment import DisputeStatus, PaymentEvent, PaymentState
from contracts.limits import Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.disputes import end_dispute
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class EndDispute(Command[PaymentState], frozen=True, kw_only=True):
    """Record that an open dispute was won or lost; the provider's fee stays booked.

    Answers with the payment; IllegalTransitionError when the dispute has ended.
    """

    payment_id: Uuid
    provider_reference: Reference
    is_won: bool

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment with the dispute ended."""
        payment = load(tx, PaymentState, self.merchant_id, self.payment_id)
        status = DisputeStatus.WON if self.is_won else DisputeStatus.LOST
        event = PaymentEvent.PAYMENT_DISPUTE_WON if self.is_won else PaymentEvent.PAYMENT_DISPUTE_LOST
        return save(tx, payment, end_dispute(payment, self.provider_reference, status, tx.occurred_at), event)
