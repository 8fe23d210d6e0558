"""Authorize a payment: set the order's money aside at the provider.

Everything is checked before the provider is asked; from then on no other authorization covers the same money. If the
order no longer accepts the authorization (it was cancelled meanwhile), or no client repeats the command, we void it at
the provider and record the payment as declined. So a repeated command never returns a voided authorization as a live
one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from contracts.errors import ConflictError, GatewayDeclinedError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import AmountMinor, PaymentToken, Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.payments import amount_to_authorize, authorize_payment
from oltp.domain.provider_calls import CallKind, ProviderCall, to_be_paid_minor
from oltp.gateway import provider_key
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, ask_by, save
from oltp.transaction import CommandTransaction

Found = tuple[OrderState, Sequence[PaymentState], int]
"""The order, its payments, and the amount that other authorizations under way ask for, in minor units."""


class AuthorizePayment(ProviderCommand[PaymentState, Found], frozen=True, kw_only=True):
    """Authorize `amount_minor` of an order; None: the whole amount that no other authorization covers.

    If the provider declines the payment, or the order no longer accepts it, the payment is recorded and returned with
    status declined. A free order has no payment: ConflictError.
    """

    IS_BATCHABLE: ClassVar[bool] = True

    order_id: Uuid
    amount_minor: AmountMinor | None = None
    payment_id: Uuid | None = None
    payment_token: PaymentToken = "tok_card"
    """The provider's token for the customer's card."""

    def load(self, tx: CommandTransaction) -> Found:
        """Return the order, its payments and the calls under way: they decide how much may be authorized."""
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id)
        ask_payments = ask_by(tx, PaymentState, self.merchant_id, "order_id", self.order_id, lock=False)
        ask_calls = calls_of_order(tx, self.merchant_id, self.order_id)
        order = ask_order()
        return order, ask_payments(), to_be_paid_minor(ask_calls())

    def prepare(self, tx: CommandTransaction, loaded: Found) -> ProviderCall:
        """Return the call for the open amount; ConflictError when no amount is open, or the payment's id is taken."""
        order, payments, in_flight = loaded
        return ProviderCall(
            kind=CallKind.AUTHORIZE,
            provider_key=provider_key(self.merchant_id, tx.idempotency_key),
            order_id=order.order_id,
            payment_id=self.payment_id or tx.new_id(),
            subject=self.payment_token,
            amount_minor=amount_to_authorize(order, payments, self.amount_minor, in_flight),
            currency=order.currency,
        )

    def conclude(
        self, tx: CommandTransaction, loaded: Found, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState | ProviderCall:
        """Return the payment, authorized or declined, or the call that voids the authorization."""
        if call.kind is CallKind.GIVE_UP or isinstance(outcome, GatewayDeclinedError):
            reference = call.subject if call.kind is CallKind.GIVE_UP else ""
            return _save(tx, loaded[0], call, 0, reference, is_declined=True)
        if is_abandoned or not _is_open(loaded, outcome.amount_minor):
            return msgspec.structs.replace(
                call, kind=CallKind.GIVE_UP, provider_key=f"{call.provider_key}/void", subject=outcome.reference
            )
        return _save(tx, loaded[0], call, outcome.amount_minor, outcome.reference, is_declined=False)


def _is_open(loaded: Found, amount_minor: int) -> bool:
    """Return whether the order's open amount is at least the authorized amount."""
    order, payments, in_flight = loaded
    try:
        return amount_minor <= amount_to_authorize(order, payments, None, in_flight)
    except ConflictError:
        return False


def _save(
    tx: CommandTransaction,
    order: OrderState,
    call: ProviderCall,
    amount_minor: int,
    reference: str,
    *,
    is_declined: bool,
) -> PaymentState:
    payment = authorize_payment(
        order,
        payment_id=call.payment_id,
        amount_minor=amount_minor,
        provider=tx.gateway.name,
        provider_reference=reference,
        authorized_at=tx.occurred_at,
        is_declined=is_declined,
    )
    return save(tx, None, payment, PaymentEvent.PAYMENT_DECLINED if is_declined else PaymentEvent.PAYMENT_AUTHORIZED)
