"""Fail a payment: the bank does not pay what was waited for. Its order ends with it, unless something else pays."""

from __future__ import annotations

from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import Note, Uuid
from oltp.commands.ending_orders import end_unpaid
from oltp.commands.execute import Command
from oltp.domain.pending_payments import fail_payment
from oltp.store.payments import lock_with_order
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class FailPayment(Command[PaymentState], frozen=True, kw_only=True):
    """Record that the money of a pending payment will not come.

    Answers with the payment; IllegalTransitionError unless it is pending. An order that nothing else pays is cancelled.
    """

    payment_id: Uuid
    failure_reason: Note

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the failed payment."""
        order, payment = lock_with_order(tx, self.merchant_id, self.payment_id)
        failed = save(tx, payment, fail_payment(payment, self.failure_reason), PaymentEvent.PAYMENT_FAILED)
        end_unpaid(tx, order)
        return failed
