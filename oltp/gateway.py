"""The payment provider as a port, and the embedded provider that needs no network.

Belongs here: what a provider must be able to do, and one that does it. Does not belong here: when money moves
(`oltp/commands/`), or what a payment then looks like (`oltp/domain/payments.py`).

A reference has at most 255 characters (`contracts.limits.REFERENCE`). A longer one of a capture, void or refund is
recorded shortened; an authorization with such a reference is let go again, since it could not be asked for whole.

Every call carries the idempotency key of the command that makes it, a refund's the refund's id. A provider answers a
repeated key with its first answer, reference and amount, and moves no money twice. So a call whose answer was lost is
made again with the same key, by the caller or by `oltp/settling.py`.

Where the calls stand: outside of any transaction, and with no connection held (`oltp/commands/asking.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from contracts.errors import GatewayDeclinedError

DECLINED_TOKEN = "tok_declined"
"""The token that an embedded provider declines unless told otherwise."""


def provider_key(merchant_id: str, idempotency_key: str) -> str:
    """Return the key under which a merchant's command is known to the provider, whom all merchants share."""
    return f"{merchant_id}/{idempotency_key}"


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What a provider did for a key: a repeated key gets both of the first time, whatever amount it asks for."""

    reference: str
    amount_minor: int


class PaymentGateway(Protocol):
    """A payment provider. Amounts in minor units of `currency`, above 0.

    Every method is idempotent by `idempotency_key`. Raises GatewayDeclinedError when the provider says no and
    GatewayError when it does not answer (then repeat with the same key).
    """

    name: str
    is_local: bool
    """Whether it answers within this process, at once, and moves no money: then it is asked inside the transaction."""

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Set money aside; return the provider's reference of the authorization, and how much it holds."""

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Take money that was set aside; return the provider's reference of the capture, and how much it took."""

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Let an authorization go; return the provider's reference of the void."""

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Give captured money back; return the provider's reference of the refund."""


class EmbeddedGateway:
    """A provider in this process, without state: a reference is a function of step and key, in every process alike.

    Without state it moves no money, and cannot tell that a repeated key asks for another amount than before. It
    declines every call whose payment token or authorization reference is in `declined`.
    """

    name = "embedded"
    is_local = True

    def __init__(self, declined: frozenset[str] = frozenset({DECLINED_TOKEN})) -> None:
        self._declined = declined

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Return ``auth_...`` and the amount asked for."""
        return Moved(reference=self._answer("auth", idempotency_key, payment_token), amount_minor=amount_minor)

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Return ``capt_...`` and the amount asked for."""
        return Moved(
            reference=self._answer("capt", idempotency_key, authorization_reference), amount_minor=amount_minor
        )

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Return ``void_...``."""
        return self._answer("void", idempotency_key, authorization_reference)

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Return ``refd_...``; the amount plays no part."""
        return self._answer("refd", idempotency_key, authorization_reference)

    def _answer(self, step: str, idempotency_key: str, subject: str) -> str:
        if subject in self._declined:
            raise GatewayDeclinedError(f"The provider declined {subject}.")
        return f"{step}_{hashlib.sha256(f'{step}:{idempotency_key}'.encode()).hexdigest()[:24]}"
