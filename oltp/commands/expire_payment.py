"""End the waiting for money whose time is over. Its order ends with it, unless something else pays.

The provider is told first, so that it takes no money for what has ended here: a transfer is not expected any more, a
debit is not collected. Money may come in the same moment. If the provider says so before its answer, it is captured,
and only the rest ends. If the provider refuses, it has the money already: this is waited for a day more. Money that
comes later all the same is unallocated (`receive_payment.py`).
"""

from __future__ import annotations

from datetime import timedelta

from contracts.errors import ConflictError, GatewayDeclinedError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState, PaymentStatus
from contracts.limits import Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.commands.ending_orders import end_unpaid
from oltp.commands.expire import Expiring
from oltp.commands.void_payment import void_call
from oltp.domain.pending_payments import expire_payment, waited_for_minor
from oltp.domain.provider_calls import ProviderCall
from oltp.store.payments import lock_with_order
from oltp.store.rows import save
from oltp.transaction import CommandTransaction

PAYMENTS = Expiring(
    state_type=PaymentState,
    named="payments",
    waiting=(PaymentStatus.PENDING, PaymentStatus.CAPTURED),
    event=PaymentEvent.PAYMENT_EXPIRED,
    end=lambda payment, _: expire_payment(payment),
)

REFUSED_WAITS = timedelta(days=1)
"""How long money is waited for after its time, while the provider refuses to let it go."""

Found = tuple[OrderState, PaymentState]


class ExpirePayment(ProviderCommand[PaymentState, Found], frozen=True, kw_only=True):
    """End the waiting for the money of a payment, at the provider and here; ConflictError before its time.

    Answers with the payment: voided, or captured as far as money came. GatewayDeclinedError, and nothing ends, while
    the provider refuses; a day after the time it ends all the same.
    """

    payment_id: Uuid

    def load(self, tx: CommandTransaction) -> Found:
        """Return order and payment, locked in this order."""
        return lock_with_order(tx, self.merchant_id, self.payment_id)

    def prepare(self, tx: CommandTransaction, loaded: Found) -> ProviderCall:
        """Return the call that lets the payment go."""
        _, payment = loaded
        if payment.expires_at is None or payment.expires_at > tx.occurred_at:
            raise ConflictError(f"Payment {payment.payment_id} has no waiting whose time is over.")
        return void_call(tx, payment)

    def conclude(
        self, tx: CommandTransaction, loaded: Found, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState:
        """Return the payment after its end; as it is when it ended, or its money came, while the provider was asked."""
        order, payment = loaded
        if payment.expires_at is None or not waited_for_minor(payment):
            return payment
        if isinstance(outcome, GatewayDeclinedError) and tx.occurred_at < payment.expires_at + REFUSED_WAITS:
            raise outcome
        expired = save(tx, payment, PAYMENTS.end(payment, tx.occurred_at), PAYMENTS.event)
        end_unpaid(tx, order)
        return expired
