"""Await a payment: its money comes days later, by a bank transfer or a direct debit.

Like an authorization (`new_payment.py`), but that nothing is set aside: the money is waited for until the merchant's
time is over. What becomes of it is said by later commands: `receive_payment.py`, `fail_payment.py`, `expire_payment.py`
and `return_payment.py`.
"""

from __future__ import annotations

from contracts.events.merchant import MerchantState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentMethod, PaymentState
from contracts.limits import PaymentToken
from oltp.commands.new_payment import NewPayment
from oltp.domain.pending_payments import pending_payment, wait_days
from oltp.domain.provider_calls import CallKind, ProviderCall
from oltp.gateway import Moved
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction

CALLS = {PaymentMethod.BANK_TRANSFER: CallKind.TRANSFER, PaymentMethod.DIRECT_DEBIT: CallKind.DEBIT}


class AwaitPayment(NewPayment, frozen=True, kw_only=True):
    """Wait for `amount_minor` of an order; None: the whole amount that no other payment covers.

    Answers with the payment, pending: for a bank transfer the customer is told `pay_to` and `provider_reference`. If
    the provider refuses, or the order does not accept the payment any more, it is declined.
    """

    method: PaymentMethod
    payment_token: PaymentToken = "tok_mandate"
    """For a direct debit the provider's token for the customer's mandate."""

    @property
    def later(self) -> PaymentMethod:
        """How its money comes."""
        return self.method

    @property
    def call_kind(self) -> CallKind:
        """Name an account to transfer to, or begin to collect."""
        return CALLS[self.method]

    def accepted(self, tx: CommandTransaction, order: OrderState, call: ProviderCall, moved: Moved) -> PaymentState:
        """Return the payment, pending; the merchant says how long is waited."""
        merchant = load(tx, MerchantState, self.merchant_id, self.merchant_id, lock=False)
        payment = pending_payment(
            order,
            payment_id=call.payment_id,
            method=self.method,
            amount_minor=moved.amount_minor,
            provider=tx.gateway.name,
            provider_reference=moved.reference,
            pay_to=moved.pay_to,
            asked_at=tx.occurred_at,
            expires_at=tx.occurred_at + wait_days(merchant, self.method),
        )
        return save(tx, None, payment, PaymentEvent.PAYMENT_PENDING)
