"""Await a payment: its money comes days later, by a bank transfer or a direct debit.

Like an authorization, but that nothing is set aside: the money is waited for until the merchant's time is over. What
becomes of it is said by later commands: `receive_payment.py`, `fail_payment.py`, `expire_payment.py` and
`return_payment.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contracts.errors import ConflictError, GatewayDeclinedError
from contracts.events.merchant import MerchantState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentMethod, PaymentState
from contracts.limits import AmountMinor, PaymentToken, Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.payments import amount_to_authorize, authorize_payment
from oltp.domain.pending_payments import pending_payment, wait_days
from oltp.domain.provider_calls import CallKind, ProviderCall, to_be_paid_minor
from oltp.gateway import provider_key
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, ask_by, save
from oltp.transaction import CommandTransaction

Found = tuple[OrderState, Sequence[PaymentState], int, MerchantState]
"""The order, its payments, the amount of other new payments under way in minor units, and the merchant."""

CALLS = {PaymentMethod.BANK_TRANSFER: CallKind.TRANSFER, PaymentMethod.DIRECT_DEBIT: CallKind.DEBIT}


class AwaitPayment(ProviderCommand[PaymentState, Found], frozen=True, kw_only=True):
    """Wait for `amount_minor` of an order; None: the whole amount that no other payment covers.

    Answers with the payment, pending: for a bank transfer the customer is told `pay_to` and `provider_reference`. If
    the provider refuses, or the order does not accept the payment any more, it is declined.
    """

    order_id: Uuid
    method: PaymentMethod
    amount_minor: AmountMinor | None = None
    payment_id: Uuid | None = None
    payment_token: PaymentToken = "tok_mandate"
    """For a direct debit the provider's token for the customer's mandate."""

    def load(self, tx: CommandTransaction) -> Found:
        """Return the order, its payments, and the merchant, who says how long is waited."""
        ask_merchant = ask(tx, MerchantState, self.merchant_id, self.merchant_id, lock=False)
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id)
        ask_payments = ask_by(tx, PaymentState, self.merchant_id, "order_id", self.order_id, lock=False)
        ask_calls = calls_of_order(tx, self.merchant_id, self.order_id)
        merchant, order = ask_merchant(), ask_order()
        return order, ask_payments(), to_be_paid_minor(ask_calls()), merchant

    def prepare(self, tx: CommandTransaction, loaded: Found) -> ProviderCall:
        """Return the call for the open amount; ConflictError when no amount is open, or the payment's id is taken."""
        order, payments, in_flight, _ = loaded
        return ProviderCall(
            kind=CALLS[self.method],
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
        """Return the payment, pending or declined, or the call that gives it up."""
        order, _, _, merchant = loaded
        if call.kind is CallKind.GIVE_UP or isinstance(outcome, GatewayDeclinedError):
            declined = authorize_payment(
                order,
                payment_id=call.payment_id,
                amount_minor=0,
                provider=tx.gateway.name,
                provider_reference=call.subject if call.kind is CallKind.GIVE_UP else "",
                authorized_at=tx.occurred_at,
                is_declined=True,
            )
            # With its method, so that money that comes all the same is recorded.
            after = msgspec.structs.replace(declined, method=self.method)
            return save(tx, None, after, PaymentEvent.PAYMENT_DECLINED)
        if is_abandoned or not _is_open(loaded, outcome.amount_minor):
            return msgspec.structs.replace(
                call, kind=CallKind.GIVE_UP, provider_key=f"{call.provider_key}/void", subject=outcome.reference
            )
        payment = pending_payment(
            order,
            payment_id=call.payment_id,
            method=self.method,
            amount_minor=outcome.amount_minor,
            provider=tx.gateway.name,
            provider_reference=outcome.reference,
            pay_to=outcome.pay_to,
            asked_at=tx.occurred_at,
            expires_at=tx.occurred_at + wait_days(merchant, self.method),
        )
        return save(tx, None, payment, PaymentEvent.PAYMENT_PENDING)


def _is_open(loaded: Found, amount_minor: int) -> bool:
    """Return whether the order's open amount is at least the awaited amount."""
    order, payments, in_flight, _ = loaded
    try:
        return amount_minor <= amount_to_authorize(order, payments, None, in_flight)
    except ConflictError:
        return False
