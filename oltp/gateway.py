"""The payment provider as a port, and the embedded provider that needs no network.

Belongs here: the interface of a provider, and one implementation. Does not belong here: when money moves
(`oltp/commands/`), or the payment's next state (`oltp/domain/payments.py`).

A reference has at most 255 characters (`contracts.limits.REFERENCE`). A longer reference of a capture, void or refund
is recorded shortened. An authorization with a longer reference is voided, because later calls need the whole reference.

Every call carries an idempotency key: the command's key or, for a refund, the refund's id. A provider answers a
repeated key with its first answer (reference and amount) and moves no money twice. So a call whose answer was lost is
repeated with the same key, by the caller or by `oltp/settling.py`.

Calls are made outside of any transaction, and no connection is held meanwhile (`oltp/commands/asking.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from contracts.errors import GatewayDeclinedError

DECLINED_TOKEN = "tok_declined"
"""The payment token that the embedded provider declines by default."""
EMBEDDED_BANK = "EMBEDDED BANK"
"""At which the embedded provider has its accounts."""


def provider_key(merchant_id: str, idempotency_key: str) -> str:
    """Return the provider's key for a merchant's command; it has the merchant, because all share one provider."""
    return f"{merchant_id}/{idempotency_key}"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a provider did for a key; a repeated key gets both values of the first call, even for another amount."""

    reference: str
    amount_minor: int
    pay_to: str | None = None
    """For a bank transfer the account that the customer is told."""


class PaymentGateway(Protocol):
    """A payment provider. Amounts in minor units of `currency`, above 0.

    Every method is idempotent by `idempotency_key`. Raises GatewayDeclinedError when the provider declines, and
    GatewayError when it does not answer (then repeat with the same key).
    """

    name: str
    is_local: bool
    """Whether it answers at once within this process and moves no money; then it is asked inside the transaction."""

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Authorize an amount; return the provider's reference of the authorization, and the authorized amount."""

    def expect_transfer(self, *, idempotency_key: str, amount_minor: int, currency: str) -> Moved:
        """Name an account to which a customer transfers the amount; return it, the reference that the customer states
        with the transfer, and the amount.
        """

    def collect(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Begin to collect an amount from a customer's account; return the provider's reference, and the amount.

        Whether the bank pays comes later, as a notification.
        """

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Capture an authorized amount; return the provider's reference of the capture, and the captured amount."""

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Void an authorization, or what is waited for; return the provider's reference of the void."""

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Refund captured money; return the provider's reference of the refund."""

    def give_back(self, *, idempotency_key: str, receipt_reference: str, amount_minor: int, currency: str) -> str:
        """Send money of a receipt that nothing waited for back to the customer; return the provider's reference."""


class EmbeddedGateway:
    """A provider in this process, without state: a reference is a function of step and key, the same in every process.

    It moves no money. It cannot detect that a repeated key asks for another amount than before, because it has no
    state. It declines every call whose payment token or authorization reference is in `declined`.
    """

    name = "embedded"
    is_local = True

    def __init__(self, declined: frozenset[str] = frozenset({DECLINED_TOKEN})) -> None:
        self._declined = declined

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Return ``auth_...`` and the amount asked for."""
        return Moved(reference=self._answer("auth", idempotency_key, payment_token), amount_minor=amount_minor)

    def expect_transfer(self, *, idempotency_key: str, amount_minor: int, currency: str) -> Moved:
        """Return ``tran_...``, an account of the currency, and the amount asked for."""
        reference = self._answer("tran", idempotency_key, "")
        return Moved(reference=reference, amount_minor=amount_minor, pay_to=f"{currency} 0000 {EMBEDDED_BANK}")

    def collect(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Return ``debi_...`` and the amount asked for."""
        return Moved(reference=self._answer("debi", idempotency_key, payment_token), amount_minor=amount_minor)

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Return ``capt_...`` and the amount asked for."""
        return Moved(
            reference=self._answer("capt", idempotency_key, authorization_reference), amount_minor=amount_minor
        )

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Return ``void_...``."""
        return self._answer("void", idempotency_key, authorization_reference)

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Return ``refd_...``; the amount is ignored."""
        return self._answer("refd", idempotency_key, authorization_reference)

    def give_back(self, *, idempotency_key: str, receipt_reference: str, amount_minor: int, currency: str) -> str:
        """Return ``back_...``; the amount is ignored."""
        return self._answer("back", idempotency_key, receipt_reference)

    def _answer(self, step: str, idempotency_key: str, subject: str) -> str:
        if subject in self._declined:
            raise GatewayDeclinedError(f"The provider declined {subject}.")
        return f"{step}_{hashlib.sha256(f'{step}:{idempotency_key}'.encode()).hexdigest()[:24]}"
