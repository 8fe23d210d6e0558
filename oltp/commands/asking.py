"""Commands that call the payment provider: we commit the planned call, make it, and then commit its outcome.

Belongs here: that order of steps. Does not belong here: what each command checks and records (their own files).

1. A transaction checks everything, claims the key, and writes the call that is about to be made. From its commit on,
   the amount of the call counts as taken for all other commands.
2. The provider is asked. No transaction is open and no connection is held, however long it takes.
3. A transaction records the outcome with the answer, and deletes the call.

If the process dies in between, the row of the call stays. A command with the same key continues it: the provider is
idempotent by key and repeats its first answer, so no money moves twice. If no client repeats the command,
`oltp/settling.py` finishes the call. The provider's notification of the same fact may come before its answer to us: it
records the outcome in the same way (`oltp/commands/apply_notification.py`), and step 3 finds it recorded. A provider
that answers in this process without moving money (`is_local`) is asked inside one transaction, and no call is written.
"""

from __future__ import annotations

import hashlib
import logging
from typing import ClassVar, Generic, TypeVar

import msgspec
from psycopg import errors

from contracts.errors import GatewayDeclinedError
from contracts.limits import REFERENCE
from contracts.text import visible
from oltp.commands.execute import (
    Answer,
    Command,
    CommandPod,
    claim,
    find_answer,
    residing,
    transaction_of,
)
from oltp.commands.finishing import commit, store_answer
from oltp.commands.requests import Request
from oltp.domain.provider_calls import CallKind, ProviderCall
from oltp.gateway import Moved, PaymentGateway
from oltp.store.provider_calls import become, close_call, find_call, open_call
from oltp.transaction import CommandTransaction

DIGEST_CHARACTERS = 24

logger = logging.getLogger("tieout.commands")

Loaded = TypeVar("Loaded")
Outcome = Moved | GatewayDeclinedError


class ProviderCommand(Command[Answer], Generic[Answer, Loaded], frozen=True, kw_only=True):
    """A command that asks the provider. A subclass defines what it reads, what it asks, and what it records."""

    ASKS_PROVIDER: ClassVar[bool] = True

    def load(self, tx: CommandTransaction) -> Loaded:
        """Lock and return the aggregates that the command changes; called in both transactions."""
        raise TypeError(f"{type(self).__name__} does not say how it asks the provider.")

    def prepare(self, tx: CommandTransaction, loaded: Loaded) -> Answer | ProviderCall:
        """Check everything that can be checked, and return what is to be asked, or the answer if nothing is."""
        raise TypeError(f"{type(self).__name__} does not say how it asks the provider.")

    def conclude(
        self, tx: CommandTransaction, loaded: Loaded, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool
    ) -> Answer | ProviderCall:
        """Record the outcome and return the answer, or the call that has to follow.

        `is_abandoned`: no client waits for the answer any more. Raises the outcome (GatewayDeclinedError) when a
        refusal is not recorded.
        """
        raise TypeError(f"{type(self).__name__} does not say how it asks the provider.")

    def run(self, tx: CommandTransaction) -> Answer:
        """Do everything in one transaction, for a provider that answers at once and moves no money."""
        loaded = self.load(tx)
        step = self.prepare(tx, loaded)
        while isinstance(step, ProviderCall):
            step = self.conclude(tx, loaded, step, asked(tx.gateway, step), is_abandoned=False)
        return step

    def attempt(self, pod: CommandPod, request: Request) -> Answer:
        """Run once, in as many transactions as needed, or return the answer that is stored under the key."""
        if pod.gateway.is_local:
            return super().attempt(pod, request)
        step = self._begin(pod, request)
        while isinstance(step, ProviderCall):
            step = self._conclude(pod, request, step, asked(pod.gateway, step))
        return step

    def _begin(self, pod: CommandPod, request: Request) -> Answer | ProviderCall:
        with transaction_of(pod, request) as opened:
            tx = claim(opened, self, request)
            if tx is None:
                return self._under_way(opened, request)
            step = self.prepare(tx, self.load(tx))
            if isinstance(step, ProviderCall):
                open_call(tx, self.merchant_id, step, type(self).__name__, msgspec.json.encode(self).decode())
            else:
                store_answer(tx, self.merchant_id, step)
            commit(tx)
        return step

    def _under_way(self, tx: CommandTransaction, request: Request) -> Answer | ProviderCall:
        """Return the stored answer, or the call that has no answer yet."""
        # Read the call before the answer: a transaction that deletes the call has stored the answer.
        call, _ = find_call(tx, self.merchant_id)
        answer = find_answer(tx, self)
        if answer is not None:
            return answer
        if call is None:
            raise errors.SerializationFailure("The call was settled at this moment.")
        return call

    def _conclude(
        self, pod: CommandPod, request: Request, call: ProviderCall, outcome: Outcome
    ) -> Answer | ProviderCall:
        with transaction_of(pod, request) as opened:
            present, directory_epoch = find_call(opened, self.merchant_id)
            if present != call:
                # Another request with the same key was faster: return its answer, or its next call.
                return self._under_way(opened, request)
            tx = residing(opened, self, directory_epoch)
            step = self.record(tx, call, outcome, is_abandoned=request.is_abandoned)
            commit(tx)
        if isinstance(step, GatewayDeclinedError):
            raise step
        return step

    def record(
        self, tx: CommandTransaction, call: ProviderCall, outcome: Outcome, *, is_abandoned: bool = False
    ) -> Answer | ProviderCall | GatewayDeclinedError:
        """Record the outcome of the call of the transaction's key, which is locked, and delete or replace the call.

        Returns the answer, the call that has to follow, or the refusal when a refusal is not recorded. The caller
        commits.
        """
        try:
            step = self.conclude(tx, self.load(tx), call, outcome, is_abandoned=is_abandoned)
        except GatewayDeclinedError as declined:
            close_call(tx, self.merchant_id, frees_key=True)
            return declined
        if isinstance(step, ProviderCall):
            become(tx, self.merchant_id, step)
        else:
            store_answer(tx, self.merchant_id, step)
            close_call(tx, self.merchant_id)
        return step


def asked(gateway: PaymentGateway, call: ProviderCall) -> Outcome:
    """Make the call and return what the provider moved, or that it declined; GatewayError when it does not answer."""
    key, subject = call.provider_key, call.subject
    try:
        match call.kind:
            case CallKind.AUTHORIZE | CallKind.TRANSFER | CallKind.DEBIT:
                return _set_aside(gateway, call)
            case CallKind.CAPTURE:
                captured = gateway.capture(
                    idempotency_key=key,
                    authorization_reference=subject,
                    amount_minor=call.amount_minor,
                    currency=call.currency,
                )
                return Moved(reference=recorded_reference(captured.reference), amount_minor=captured.amount_minor)
            case CallKind.REFUND:
                reference = recorded_reference(_refunded(gateway, call))
                return Moved(reference=reference, amount_minor=call.amount_minor)
            case CallKind.GIVE_BACK:
                reference = gateway.give_back(
                    idempotency_key=key,
                    receipt_reference=subject,
                    amount_minor=call.amount_minor,
                    currency=call.currency,
                )
                return Moved(reference=recorded_reference(reference), amount_minor=call.amount_minor)
            case CallKind.VOID | CallKind.GIVE_UP:
                reference = gateway.void(idempotency_key=key, authorization_reference=subject)
                return Moved(reference=reference, amount_minor=call.amount_minor)
    except GatewayDeclinedError as declined:
        return declined


def recorded_reference(reference: str) -> str:
    """Return the text to record for a reference: all of it or, when it is too long, its beginning and a checksum.

    Only for references that no later call uses. The money has moved by then, so any reference must be recorded.
    """
    if not reference or REFERENCE.problem(reference) is None:
        return reference
    digest = hashlib.sha256(reference.encode(errors="surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
    return f"{visible(reference)[: REFERENCE.longest - DIGEST_CHARACTERS - 1]}~{digest}"


def _set_aside(gateway: PaymentGateway, call: ProviderCall) -> Outcome:
    """Ask for a new payment; void it when its reference is too long to store, because no later call could name it.

    Both calls are idempotent, so they may be repeated after a crash.
    """
    moved = _new_payment(gateway, call)
    problem = REFERENCE.problem(moved.reference)
    if problem is None and moved.pay_to is not None:
        problem = REFERENCE.problem(moved.pay_to)
    if problem is None:
        return moved
    gateway.void(idempotency_key=f"{call.provider_key}/void", authorization_reference=moved.reference)
    declined = GatewayDeclinedError(f"The provider's reference of a new payment {problem}; it was voided.")
    logger.error("Payment %s: %s", call.payment_id, declined)
    return declined


def _new_payment(gateway: PaymentGateway, call: ProviderCall) -> Moved:
    key, amount_minor, currency = call.provider_key, call.amount_minor, call.currency
    if call.kind is CallKind.TRANSFER:
        return gateway.expect_transfer(idempotency_key=key, amount_minor=amount_minor, currency=currency)
    ask = gateway.collect if call.kind is CallKind.DEBIT else gateway.authorize
    return ask(idempotency_key=key, amount_minor=amount_minor, currency=currency, payment_token=call.subject)


def _refunded(gateway: PaymentGateway, call: ProviderCall) -> str:
    """Ask for a refund; return "" without a call when the amount is 0 (units that cost nothing)."""
    if call.amount_minor == 0:
        return ""
    return gateway.refund(
        idempotency_key=call.provider_key,
        authorization_reference=call.subject,
        amount_minor=call.amount_minor,
        currency=call.currency,
    )
