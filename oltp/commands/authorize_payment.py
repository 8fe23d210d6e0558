"""Authorize a payment: the amount is set aside at the provider and captured later.

Checking, asking and giving up: `new_payment.py`.
"""

from __future__ import annotations

from typing import ClassVar

from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import PaymentToken
from oltp.commands.new_payment import NewPayment
from oltp.domain.payments import authorize_payment
from oltp.domain.provider_calls import CallKind, ProviderCall
from oltp.gateway import Moved
from oltp.store.rows import save
from oltp.transaction import CommandTransaction


class AuthorizePayment(NewPayment, frozen=True, kw_only=True):
    """Authorize `amount_minor` of an order; None: the whole amount that no other authorization covers.

    If the provider declines the payment, or the order no longer accepts it, the payment is recorded and returned with
    status declined. A free order has no payment: ConflictError.
    """

    IS_BATCHABLE: ClassVar[bool] = True

    payment_token: PaymentToken = "tok_card"
    """The provider's token for the customer's card."""

    @property
    def call_kind(self) -> CallKind:
        """Set the amount aside."""
        return CallKind.AUTHORIZE

    def accepted(self, tx: CommandTransaction, order: OrderState, call: ProviderCall, moved: Moved) -> PaymentState:
        """Return the payment, authorized."""
        payment = authorize_payment(
            order,
            payment_id=call.payment_id,
            amount_minor=moved.amount_minor,
            provider=tx.gateway.name,
            provider_reference=moved.reference,
            authorized_at=tx.occurred_at,
            is_declined=False,
        )
        return save(tx, None, payment, PaymentEvent.PAYMENT_AUTHORIZED)
