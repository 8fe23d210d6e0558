"""Return a payment: the bank took a receipt back, e.g. a direct debit that its customer disputes, up to weeks later.

The money is gone on the day of the return, and the order owes it again. What it was captured for stays: closed months
have the capture, the day of the return has the opposite. The provider's fee is booked.
"""

from __future__ import annotations

from contracts.events.payment import PaymentState
from contracts.limits import AmountOrNoneMinor, Note, Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.pending_payments import return_receipt
from oltp.domain.provider_calls import CallKind, require_no_other
from oltp.store.payments import lock_with_order
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class ReturnPayment(Command[PaymentState], frozen=True, kw_only=True):
    """Record that the bank took the whole receipt `provider_reference` back, and what the provider keeps for it.

    Answers with the payment; ConflictError when there is no such receipt, or it went back already.
    """

    payment_id: Uuid
    provider_reference: Reference
    fee_minor: AmountOrNoneMinor = 0
    reason: Note

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment without the money."""
        _, payment = lock_with_order(tx, self.merchant_id, self.payment_id)
        calls = calls_of_order(tx, self.merchant_id, payment.order_id)()
        require_no_other(calls, payment.payment_id, (CallKind.GIVE_BACK,))
        steps = return_receipt(
            payment,
            self.provider_reference,
            fee_minor=self.fee_minor,
            reason=self.reason,
            movement_ids=(tx.new_id(), tx.new_id()),
            moved_at=tx.occurred_at,
        )
        for after, event in steps:
            payment = save(tx, payment, after, event)
        return payment
