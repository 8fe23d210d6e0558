"""Capture a payment, wholly or in part: take money that was authorized.

While the provider is asked, the amount of the call counts as captured, so no cancellation and no other capture can use
it. If the process dies after the provider has said yes, the same key gets the provider's first answer again and records
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from contracts.errors import GatewayAmountError, GatewayDeclinedError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentCapture, PaymentEvent, PaymentState
from contracts.limits import AmountMinor, Uuid
from contracts.money import format_minor
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.payments import amount_to_capture, capture_payment
from oltp.domain.provider_calls import CallKind, ProviderCall, in_flight_minor, require_no_other
from oltp.gateway import provider_key
from oltp.store.payments import captured_of_order
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, load, save
from oltp.transaction import CommandTransaction

Found = tuple[OrderState, PaymentState, int, Sequence[ProviderCall]]
"""The order, the payment, the amount captured of the order in minor units, and other calls under way for it."""


class CapturePayment(ProviderCommand[PaymentState, Found], frozen=True, kw_only=True):
    """Capture `amount_minor`; None: as much as the authorization and the order still allow.

    Answers with the payment. Raises OverCaptureError when the amount exceeds the authorization or the amount owed after
    cancellations.
    """

    IS_BATCHABLE: ClassVar[bool] = True

    payment_id: Uuid
    amount_minor: AmountMinor | None = None

    def load(self, tx: CommandTransaction) -> Found:
        """Return order and payment, locked, and the sums that limit the capture."""
        order_id = load(tx, PaymentState, self.merchant_id, self.payment_id, lock=False).order_id
        ask_order = ask(tx, OrderState, self.merchant_id, order_id)
        ask_payment = ask(tx, PaymentState, self.merchant_id, self.payment_id)
        ask_captured = captured_of_order(tx, order_id)
        ask_calls = calls_of_order(tx, self.merchant_id, order_id)
        return ask_order(), ask_payment(), ask_captured(), ask_calls()

    def prepare(self, tx: CommandTransaction, loaded: Found) -> ProviderCall:
        """Return the call for the amount that may be captured."""
        order, payment, captured, calls = loaded
        require_no_other(calls, payment.payment_id, (CallKind.VOID,))
        amount_minor = amount_to_capture(
            payment,
            order,
            captured + in_flight_minor(calls, CallKind.CAPTURE),
            self.amount_minor,
            in_flight_minor(calls, CallKind.CAPTURE, payment.payment_id),
        )
        return ProviderCall(
            kind=CallKind.CAPTURE,
            provider_key=provider_key(self.merchant_id, tx.idempotency_key),
            order_id=order.order_id,
            payment_id=payment.payment_id,
            subject=payment.provider_reference,
            amount_minor=amount_minor,
            currency=payment.currency,
        )

    def conclude(
        self, tx: CommandTransaction, loaded: Found, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState:
        """Return the payment with the capture; GatewayAmountError when the provider took another amount."""
        if isinstance(outcome, GatewayDeclinedError):
            raise outcome
        payment = loaded[1]
        if outcome.amount_minor != call.amount_minor:
            raise GatewayAmountError(
                f"Payment {payment.payment_id}: the provider says that it took "
                f"{format_minor(outcome.amount_minor, payment.currency)} under this idempotency key, not "
                f"{format_minor(call.amount_minor, payment.currency)}; nothing is recorded, a person must look."
            )
        capture = PaymentCapture(
            payment_capture_id=tx.new_id(),
            amount_minor=outcome.amount_minor,
            provider_reference=outcome.reference,
            captured_at=tx.occurred_at,
        )
        return save(tx, payment, capture_payment(payment, capture), PaymentEvent.PAYMENT_CAPTURED)
