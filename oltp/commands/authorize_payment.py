"""Authorize a payment: set the order's money aside at the provider.

The provider is asked before any row is locked. If the order then refuses (somebody else authorized at that moment), the
authorization is voided at the provider and the payment recorded as declined. That consumes the key: a repetition never
takes the voided authorization for a live one. If the process dies before anything is recorded, the same key asks again,
gets the same reference and amount, and records those. What this cannot see: a process that dies between the void and
the commit, and an order that has money open again when the key is repeated; the capture then fails at the provider.
"""

from __future__ import annotations

from typing import ClassVar

from contracts.errors import ConflictError, GatewayDeclinedError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import AmountMinor, PaymentToken, Uuid
from oltp.commands.execute import Command
from oltp.domain.payments import amount_to_authorize, authorize_payment
from oltp.gateway import provider_key
from oltp.store.rows import ask, ask_by, save
from oltp.transaction import CommandTransaction


class AuthorizePayment(Command[PaymentState], frozen=True, kw_only=True):
    """Authorize `amount_minor` of an order, or (None) all that no other authorization covers.

    A payment that is declined, or that another one was faster than, is recorded and returned with status declined. A
    free order has no payment: ConflictError.
    """

    IS_BATCHABLE: ClassVar[bool] = True
    ASKS_PROVIDER: ClassVar[bool] = True

    order_id: Uuid
    amount_minor: AmountMinor | None = None
    payment_id: Uuid | None = None
    payment_token: PaymentToken = "tok_card"
    """What the provider knows the customer's card by."""

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Return the new payment, authorized or declined."""
        key = provider_key(self.merchant_id, tx.idempotency_key)
        order, amount_minor = self._amount(tx, lock=False)
        try:
            answer = tx.gateway.authorize(
                idempotency_key=key,
                amount_minor=amount_minor,
                currency=order.currency,
                payment_token=self.payment_token,
            )
        except GatewayDeclinedError:
            return self._save(tx, order, 0, "", is_declined=True)
        is_late = not self._is_open(tx, answer.amount_minor)
        if is_late:
            tx.gateway.void(idempotency_key=f"{key}/void", authorization_reference=answer.reference)
        return self._save(tx, order, answer.amount_minor, answer.reference, is_declined=is_late)

    def _is_open(self, tx: CommandTransaction, amount_minor: int) -> bool:
        """Return whether the order, from now on locked, still has as much to pay as was set aside."""
        try:
            _, open_minor = self._amount(tx, lock=True)
        except ConflictError:
            return False
        return amount_minor <= open_minor

    def _amount(self, tx: CommandTransaction, *, lock: bool) -> tuple[OrderState, int]:
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id, lock=lock)
        ask_payments = ask_by(tx, PaymentState, self.merchant_id, "order_id", self.order_id, lock=False)
        order = ask_order()
        return order, amount_to_authorize(order, ask_payments(), self.amount_minor)

    def _save(
        self, tx: CommandTransaction, order: OrderState, amount_minor: int, reference: str, *, is_declined: bool
    ) -> PaymentState:
        payment = authorize_payment(
            order,
            payment_id=self.payment_id or tx.new_id(),
            amount_minor=amount_minor,
            provider=tx.gateway.name,
            provider_reference=reference,
            authorized_at=tx.occurred_at,
            is_declined=is_declined,
        )
        event = PaymentEvent.PAYMENT_DECLINED if is_declined else PaymentEvent.PAYMENT_AUTHORIZED
        return save(tx, None, payment, event)
