"""Void a payment: let an authorization go of which nothing was captured."""

from __future__ import annotations

from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import Uuid
from oltp.commands.execute import Command
from oltp.domain.payments import void_payment
from oltp.gateway import provider_key
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class VoidPayment(Command[PaymentState], frozen=True, kw_only=True):
    """Void an authorization; its row stays locked while the provider is asked, so that no capture comes in between."""

    payment_id: Uuid

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the voided payment; IllegalTransitionError unless it is authorized and nothing was captured."""
        payment = load(tx, PaymentState, self.merchant_id, self.payment_id)
        after = void_payment(payment)
        tx.gateway.void(
            idempotency_key=provider_key(self.merchant_id, tx.idempotency_key),
            authorization_reference=payment.provider_reference,
        )
        return save(tx, payment, after, PaymentEvent.PAYMENT_VOIDED)
