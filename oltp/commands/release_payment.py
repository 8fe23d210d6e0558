"""Release a payment: what was authorized and not captured is set aside no longer, and can be authorized again."""

from __future__ import annotations

from contracts.events.payment import PaymentEvent, PaymentState
from oltp.commands.execute import Command
from oltp.domain.payments import release_payment
from oltp.gateway import provider_key
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class ReleasePayment(Command[PaymentState], frozen=True, kw_only=True):
    """Release what is left of an authorization; of a payment that captured nothing that is all, and it is voided.

    `is_released_by_provider`: the provider has let it go already (it expired, or the first capture was the last); that
    is recorded, and nothing is asked for.
    """

    payment_id: str
    is_released_by_provider: bool = False

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment; ConflictError when nothing of it is set aside."""
        payment = load(tx, PaymentState, self.merchant_id, self.payment_id)
        after = release_payment(payment)
        if not self.is_released_by_provider:
            tx.gateway.void(
                idempotency_key=provider_key(self.merchant_id, tx.idempotency_key),
                authorization_reference=payment.provider_reference,
            )
        return save(tx, payment, after, PaymentEvent.PAYMENT_RELEASED)
