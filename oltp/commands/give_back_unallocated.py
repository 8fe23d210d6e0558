"""Give back unallocated money: what came too late or was too much has gone back to the customer."""

from __future__ import annotations

from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import Note, Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.pending_payments import give_back
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class GiveBackUnallocated(Command[PaymentState], frozen=True, kw_only=True):
    """Record that what is unallocated of the receipt `provider_reference` was sent back; the provider is not asked.

    Answers with the payment; ConflictError when nothing of the receipt is unallocated.
    """

    payment_id: Uuid
    provider_reference: Reference
    reason: Note

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment without the unallocated money of the receipt."""
        payment = load(tx, PaymentState, self.merchant_id, self.payment_id)
        after = give_back(
            payment,
            self.provider_reference,
            reason=self.reason,
            movement_id=tx.new_id(),
            moved_at=tx.occurred_at,
        )
        return save(tx, payment, after, PaymentEvent.PAYMENT_GIVEN_BACK)
