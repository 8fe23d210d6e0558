"""Give back unallocated money: what came too late or was too much goes back to the customer.

The provider is asked to send it, or somebody has sent it already and says so. While the provider is asked, nothing else
becomes of the receipt. What the provider refuses to send is still unallocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from contracts.errors import GatewayAmountError, GatewayDeclinedError
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import Note, Reference, Uuid
from contracts.money import format_minor
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.domain.pending_payments import give_back, unallocated_of
from oltp.domain.provider_calls import CallKind, ProviderCall, require_no_other
from oltp.gateway import provider_key
from oltp.store.payments import lock_with_order
from oltp.store.provider_calls import calls_of_order
from oltp.store.rows import save
from oltp.transaction import CommandTransaction

Found = tuple[PaymentState, Sequence[ProviderCall]]
"""The payment, and other calls under way for its order."""


class GiveBackUnallocated(ProviderCommand[PaymentState, Found], frozen=True, kw_only=True):
    """Give back what is unallocated of the receipt `provider_reference`: record that it was sent back.

    `asks_provider`: it was not sent yet, and the provider is to send it. Answers with the payment; ConflictError when
    nothing of the receipt is unallocated, or while the provider is being asked.
    """

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"asks_provider"})

    payment_id: Uuid
    provider_reference: Reference
    reason: Note
    asks_provider: bool = False

    def load(self, tx: CommandTransaction) -> Found:
        """Return the payment, locked after its order, and the calls under way."""
        _, payment = lock_with_order(tx, self.merchant_id, self.payment_id)
        return payment, calls_of_order(tx, self.merchant_id, payment.order_id)()

    def prepare(self, tx: CommandTransaction, loaded: Found) -> PaymentState | ProviderCall:
        """Return the call or, if it was sent already, the payment without the money."""
        payment, calls = loaded
        require_no_other(calls, payment.payment_id, (CallKind.GIVE_BACK,))
        amount_minor = unallocated_of(payment, self.provider_reference)
        if not self.asks_provider:
            return self._save(tx, payment)
        return ProviderCall(
            kind=CallKind.GIVE_BACK,
            provider_key=provider_key(self.merchant_id, tx.idempotency_key),
            order_id=payment.order_id,
            payment_id=payment.payment_id,
            subject=self.provider_reference,
            amount_minor=amount_minor,
            currency=payment.currency,
        )

    def conclude(
        self, tx: CommandTransaction, loaded: Found, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState:
        """Return the payment without the money; GatewayAmountError when the provider sent another amount."""
        if isinstance(outcome, GatewayDeclinedError):
            raise outcome
        payment, _ = loaded
        if outcome.amount_minor != call.amount_minor:
            raise GatewayAmountError(
                f"Payment {payment.payment_id}: the provider says that it gave "
                f"{format_minor(outcome.amount_minor, payment.currency)} back, not "
                f"{format_minor(call.amount_minor, payment.currency)}; nothing is recorded, a person must look."
            )
        return self._save(tx, payment)

    def _save(self, tx: CommandTransaction, payment: PaymentState) -> PaymentState:
        after = give_back(
            payment,
            self.provider_reference,
            reason=self.reason,
            movement_id=tx.new_id(),
            moved_at=tx.occurred_at,
        )
        return save(tx, payment, after, PaymentEvent.PAYMENT_GIVEN_BACK)
