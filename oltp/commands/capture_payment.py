"""Capture a payment, wholly or in part: take money that was set aside.

The order and the payment stay locked while the provider is asked, so that neither a cancellation nor another capture
comes in between; only callers of this one order wait. If the transaction fails after the provider has said yes, the
same key gets the provider's first answer again, reference and amount, and records it. When the order has changed
meanwhile, that amount is another than this attempt asked for: then nothing is recorded and GatewayAmountError says so.
"""

from __future__ import annotations

from typing import ClassVar

from contracts.errors import GatewayAmountError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentCapture, PaymentEvent, PaymentState
from contracts.limits import AmountMinor, Uuid
from contracts.money import format_minor
from oltp.commands.execute import Command
from oltp.domain.payments import amount_to_capture, capture_payment
from oltp.gateway import provider_key
from oltp.store.payments import captured_of_order
from oltp.store.rows import ask, load, save
from oltp.transaction import CommandTransaction


class CapturePayment(Command[PaymentState], frozen=True, kw_only=True):
    """Capture `amount_minor`, or (None) as much as the authorization and the order still allow."""

    IS_BATCHABLE: ClassVar[bool] = True
    ASKS_PROVIDER: ClassVar[bool] = True

    payment_id: Uuid
    amount_minor: AmountMinor | None = None

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment; OverCaptureError beyond the authorization or what is owed after cancellations.

        GatewayAmountError: an earlier attempt with this key took another amount.
        """
        order_id = load(tx, PaymentState, self.merchant_id, self.payment_id, lock=False).order_id
        ask_order = ask(tx, OrderState, self.merchant_id, order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, self.payment_id)
        ask_captured = captured_of_order(tx, order_id)
        order, payment = ask_order(), ask_payment()
        amount_minor = amount_to_capture(payment, order, ask_captured(), self.amount_minor)
        capture = PaymentCapture(
            payment_capture_id=tx.new_id(),
            amount_minor=amount_minor,
            provider_reference=_take(tx, payment, amount_minor),
            captured_at=tx.occurred_at,
        )
        return save(tx, payment, capture_payment(payment, capture), PaymentEvent.PAYMENT_CAPTURED)


def _take(tx: CommandTransaction, payment: PaymentState, amount_minor: int) -> str:
    """Ask the provider for exactly this amount and return its reference."""
    answer = tx.gateway.capture(
        idempotency_key=provider_key(payment.merchant_id, tx.idempotency_key),
        authorization_reference=payment.provider_reference,
        amount_minor=amount_minor,
        currency=payment.currency,
    )
    if answer.amount_minor != amount_minor:
        raise GatewayAmountError(
            f"Payment {payment.payment_id}: an earlier attempt with this idempotency key took "
            f"{format_minor(answer.amount_minor, payment.currency)} at the provider, not "
            f"{format_minor(amount_minor, payment.currency)}; repeat it with the same key and "
            f"amount_minor={answer.amount_minor}, or give the money back at the provider."
        )
    return answer.reference
