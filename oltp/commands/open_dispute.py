"""Open a dispute: the customer's bank asks money back, and the provider holds it."""

from __future__ import annotations

from contracts.events.payment import DisputeStatus, PaymentDispute, PaymentEvent, PaymentState
from contracts.limits import AmountMinor, AmountOrNoneMinor, Note, Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.disputes import open_dispute
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class OpenDispute(Command[PaymentState], frozen=True, kw_only=True):
    """Record that `amount_minor` of a captured payment is disputed, and that the provider keeps a fee.

    Answers with the payment; ConflictError when more is disputed than was captured, or the dispute is known.
    """

    payment_id: Uuid
    provider_reference: Reference
    amount_minor: AmountMinor
    fee_minor: AmountOrNoneMinor = 0
    reason: Note

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment with the open dispute."""
        payment = load(tx, PaymentState, self.merchant_id, self.payment_id)
        dispute = PaymentDispute(
            payment_dispute_id=tx.new_id(),
            provider_reference=self.provider_reference,
            status=DisputeStatus.OPENED,
            amount_minor=self.amount_minor,
            fee_minor=self.fee_minor,
            reason=self.reason,
            opened_at=tx.occurred_at,
            ended_at=None,
        )
        return save(tx, payment, open_dispute(payment, dispute), PaymentEvent.PAYMENT_DISPUTE_OPENED)
