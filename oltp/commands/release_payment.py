"""Release a payment: what was authorized and not captured is set aside no longer, and can be authorized again."""

from __future__ import annotations

from contracts.errors import GatewayDeclinedError
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.limits import Uuid
from oltp.commands.asking import Outcome, ProviderCommand
from oltp.commands.execute import CommandPod, Request
from oltp.commands.void_payment import void_call
from oltp.domain.payments import release_payment
from oltp.domain.provider_calls import ProviderCall
from oltp.store.rows import load, save
from oltp.transaction import CommandTransaction


class ReleasePayment(ProviderCommand[PaymentState, PaymentState], frozen=True, kw_only=True):
    """Release what is left of an authorization; of a payment that captured nothing that is all, and it is voided.

    `is_released_by_provider`: the provider has let it go already (it expired, or the first capture was the last); that
    is recorded, and nothing is asked for. Answers with the payment; ConflictError when nothing of it is set aside.
    """

    payment_id: Uuid
    is_released_by_provider: bool = False

    def load(self, tx: CommandTransaction) -> PaymentState:
        """Return the payment, locked."""
        return load(tx, PaymentState, self.merchant_id, self.payment_id)

    def prepare(self, tx: CommandTransaction, loaded: PaymentState) -> ProviderCall:
        """Return the call; ConflictError when nothing is left, or while the provider is asked for something else."""
        release_payment(loaded)
        return void_call(tx, loaded)

    def conclude(
        self, tx: CommandTransaction, loaded: PaymentState, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> PaymentState:
        """Return the payment without what was set aside."""
        if isinstance(outcome, GatewayDeclinedError):
            raise outcome
        return save(tx, loaded, release_payment(loaded), PaymentEvent.PAYMENT_RELEASED)

    def run(self, tx: CommandTransaction) -> PaymentState:
        """Record what the provider did by itself, or ask it within this transaction."""
        if not self.is_released_by_provider:
            return super().run(tx)
        payment = self.load(tx)
        self.prepare(tx, payment)
        return save(tx, payment, release_payment(payment), PaymentEvent.PAYMENT_RELEASED)

    def attempt(self, pod: CommandPod, request: Request) -> PaymentState:
        """Run once; what the provider did by itself takes one transaction."""
        if self.is_released_by_provider:
            return super(ProviderCommand, self).attempt(pod, request)
        return super().attempt(pod, request)
