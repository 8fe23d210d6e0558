"""What the commands that ask the provider for a new payment of an order share: what they read, ask and give up.

Belongs here: this base of `authorize_payment.py` and `await_payment.py`. Does not belong here: what each of them
records of an accepted payment.

The open amount is checked before the provider is asked; from then on no other new payment covers the same money. If the
order no longer accepts the payment (it was cancelled meanwhile), or no client repeats the command, we void it at the
provider and record the payment as declined. So a repeated command never returns a voided payment as a live one.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contracts.errors import ConflictError, GatewayDeclinedError
from contracts.events.order import OrderState
from contracts.events.payment import PaymentEvent, PaymentMethod, PaymentState
from contracts.limits import AmountMinor, PaymentToken, Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.payments import amount_to_authorize, authorize_payment
from oltp.domain.provider_calls import CallKind, ProviderCall, to_be_paid_minor
from oltp.gateway import Moved, provider_key
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import ask, ask_by, save
from oltp.transaction import CommandTransaction

Found = tuple[OrderState, Sequence[PaymentState], int]
"""The order, its payments, and the amount of other new payments under way, in minor units."""


class NewPayment(ProviderCommand[PaymentState, Found], frozen=True, kw_only=True):
    """Ask for a payment of `amount_minor`; None: the whole amount of the order that no other payment covers."""

    order_id: Uuid
    amount_minor: AmountMinor | None = None
    payment_id: Uuid | None = None
    payment_token: PaymentToken

    @property
    def later(self) -> PaymentMethod | None:
        """How its money comes later; None: it does not."""
        return None

    @property
    def call_kind(self) -> CallKind:
        """What the provider is asked for."""
        raise TypeError(f"{type(self).__name__} does not say what the provider is asked for.")

    def accepted(self, tx: CommandTransaction, order: OrderState, call: ProviderCall, moved: Moved) -> PaymentState:
        """Record and return the payment that the provider has accepted."""
        raise TypeError(f"{type(self).__name__} does not say what it records.")

    def load(self, tx: CommandTransaction) -> Found:
        """Return the order, its payments and the calls under way: they decide how much may be asked for."""
        ask_order = ask(tx, OrderState, self.merchant_id, self.order_id)
        ask_payments = ask_by(tx, PaymentState, self.merchant_id, "order_id", self.order_id, lock=False)
        ask_calls = calls_of_order(tx, self.merchant_id, self.order_id)
        order = ask_order()
        return order, ask_payments(), to_be_paid_minor(ask_calls())

    def prepare(self, tx: CommandTransaction, loaded: Found) -> ProviderCall:
        """Return the call for the open amount; ConflictError when no amount is open, or the payment's id is taken."""
        order, payments, in_flight = loaded
        return ProviderCall(
            kind=self.call_kind,
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
        """Return the payment, accepted or declined, or the call that gives it up."""
        if call.kind is CallKind.GIVE_UP or isinstance(outcome, GatewayDeclinedError):
            return self._declined(tx, loaded[0], call)
        if is_abandoned or not _is_open(loaded, outcome.amount_minor):
            return msgspec.structs.replace(
                call, kind=CallKind.GIVE_UP, provider_key=f"{call.provider_key}/void", subject=outcome.reference
            )
        return self.accepted(tx, loaded[0], call, outcome)

    def _declined(self, tx: CommandTransaction, order: OrderState, call: ProviderCall) -> PaymentState:
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
        after = msgspec.structs.replace(declined, method=self.later)
        return save(tx, None, after, PaymentEvent.PAYMENT_DECLINED)


def _is_open(loaded: Found, amount_minor: int) -> bool:
    """Return whether the order's open amount is at least the amount of the payment."""
    order, payments, in_flight = loaded
    try:
        return amount_minor <= amount_to_authorize(order, payments, None, in_flight)
    except ConflictError:
        return False
