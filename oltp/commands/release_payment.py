"""Release a payment: give up the part of an authorization that was not captured, so that it can be authorized again."""

from __future__ import annotations

from contracts.errors import GatewayDeclinedError
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.commands.execute import CommandPod
from oltp.commands.requests import Request
from oltp.commands.void_payment import let_go_later, void_call
from oltp.domain.payments import release_payment
from oltp.domain.provider_calls import ProviderCall
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class ReleasePayment(ProviderCommand[PaymentState, PaymentState], frozen=True, kw_only=True):
    """Release the uncaptured amount of an authorization; a payment without captures is voided.

    `is_released_by_provider`: the provider has already released it (it expired, or the first capture ended it); this is
    recorded, and the provider is not asked. Answers with the payment; ConflictError when no authorized amount is left.
    """

    payment_id: Uuid
    is_released_by_provider: bool = False

    def load(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment, locked."""
        return load(tx, PaymentState, self.merchant_id, self.payment_id)

    def prepare(self, tx: CommandTransaction, loaded: PaymentState) -> ProviderCall:
        """Return the call; ConflictError when no authorized amount is left, or while another call is under way."""
        release_payment(loaded)
        return void_call(tx, loaded)

    def conclude(
        self, tx: CommandTransaction, loaded: PaymentState, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState:
        """Return the payment without the released amount."""
        if isinstance(outcome, GatewayDeclinedError):
            raise outcome
        if loaded.method is not None:
            return let_go_later(tx, loaded)
        return save(tx, loaded, release_payment(loaded), PaymentEvent.PAYMENT_RELEASED)

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Record a release that the provider made by itself, or ask the provider within this transaction."""
        if not self.is_released_by_provider:
            return super().run(tx)
        payment = self.load(tx)
        self.prepare(tx, payment)
        return save(tx, payment, release_payment(payment), PaymentEvent.PAYMENT_RELEASED)

    def attempt(self, pod: CommandPod, request: Request) -> PaymentState:
        """Run once; recording a release that the provider made by itself takes one transaction."""
        if self.is_released_by_provider:
            return super(ProviderCommand, self).attempt(pod, request)
        return super().attempt(pod, request)
