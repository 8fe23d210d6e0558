"""Return a payment: the bank took a receipt back, e.g. a direct debit that its customer disputes, up to weeks later.

The money is gone on the day of the return, and the order owes it again. What it was captured for stays: closed months
have the capture, the day of the return has the opposite. The provider's fee is booked.
"""

from __future__ import annotations

from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.limits import AmountOrNoneMinor, Note, Reference, Uuid
from oltp.commands.execute import Command
from oltp.domain.pending_payments import return_receipt
from oltp.store.rows import ask, load, save
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
        payment = locked(tx, self.merchant_id, self.payment_id)
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


def locked(tx: CommandTransaction, merchant_id: str, payment_id: str) -> PaymentState:
    """Return a payment, locked after its order, because what its order owes changes with it."""
    order_id = load(tx, PaymentState, merchant_id, payment_id, lock=False).order_id
    ask_order = ask(tx, OrderState, merchant_id, order_id)
    ask_payment = ask(tx, PaymentState, merchant_id, payment_id)
    ask_order()
    return ask_payment()
