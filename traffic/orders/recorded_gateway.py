"""A payment provider that has done everything already: what a file says of it is recorded, and no money is moved.

Belongs here: answers with the file's own references, so that payments can be found at the provider. Does not belong
here: the providers of live payments (`oltp/gateway.py`).
"""

from __future__ import annotations

from contracts.errors import GatewayDeclinedError
from oltp.gateway import Moved


class RecordedGateway:
    """Stands for one method of payment; a payment's token is the provider's reference of it."""

    is_local = True

    def __init__(self, name: str, *, is_declining: bool = False) -> None:
        self.name = name
        self._is_declining = is_declining

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Return the file's reference and the amount asked for; GatewayDeclinedError for a payment that was."""
        if self._is_declining:
            raise GatewayDeclinedError(f"The file says that {payment_token} was declined.")
        return Moved(reference=payment_token, amount_minor=amount_minor)

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Return the payment's reference: a file has one for both."""
        return Moved(reference=authorization_reference, amount_minor=amount_minor)

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Return the payment's reference."""
        return authorization_reference

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Return the payment's reference; the refund's own is its external reference."""
        return authorization_reference
