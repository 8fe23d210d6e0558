"""Void a payment: cancel an authorization of which nothing was captured."""

from __future__ import annotations

from contracts.errors import GatewayDeclinedError
from contracts.events.payment import PaymentEvent, PaymentState, PaymentStatus
from contracts.limits import Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.payments import left_to_capture_minor, release_payment, void_payment
from oltp.domain.provider_calls import CallKind, ProviderCall, require_no_other
from oltp.gateway import provider_key
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class VoidPayment(ProviderCommand[PaymentState, PaymentState], frozen=True, kw_only=True):
    """Void an authorization; while the provider is asked, no capture of it can begin.

    Answers with the voided payment; IllegalTransitionError unless it is authorized and nothing was captured.
    """

    payment_id: Uuid

    def load(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment, locked."""
        return load(tx, PaymentState, self.merchant_id, self.payment_id)

    def prepare(self, tx: CommandTransaction, loaded: PaymentState) -> ProviderCall:
        """Return the call; ConflictError while a capture is under way."""
        void_payment(loaded)
        return void_call(tx, loaded)

    def conclude(
        self, tx: CommandTransaction, loaded: PaymentState, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState:
        """Return the payment, voided."""
        if isinstance(outcome, GatewayDeclinedError):
            raise outcome
        if loaded.method is not None and loaded.status is not PaymentStatus.PENDING:
            return let_go_later(tx, loaded)
        return save(tx, loaded, void_payment(loaded), PaymentEvent.PAYMENT_VOIDED)


def let_go_later(tx: CommandTransaction, payment: PaymentState) -> PaymentState:
    """Return a payment whose waiting the provider has ended, and which may have ended or got money while it was asked.

    Raises GatewayDeclinedError when all its money had come: then nothing was let go.
    """
    if left_to_capture_minor(payment):
        return save(tx, payment, release_payment(payment), PaymentEvent.PAYMENT_RELEASED)
    if payment.status is PaymentStatus.CAPTURED:
        raise GatewayDeclinedError(f"The money of payment {payment.payment_id} had come; refund it.")
    return payment


def void_call(tx: CommandTransaction, payment: PaymentState) -> ProviderCall:
    """Return the call that voids the rest of an authorization; ConflictError while another call for it is under way."""
    calls = calls_of_order(tx, payment.merchant_id, payment.order_id)()
    require_no_other(calls, payment.payment_id, (CallKind.CAPTURE, CallKind.VOID))
    return ProviderCall(
        kind=CallKind.VOID,
        provider_key=provider_key(payment.merchant_id, tx.idempotency_key),
        order_id=payment.order_id,
        payment_id=payment.payment_id,
        subject=payment.provider_reference,
        amount_minor=0,
        currency=payment.currency,
    )
