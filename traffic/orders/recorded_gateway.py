"""A payment provider for past payments: it returns the references of a file and moves no money.

Belongs here: answers with the file's references, so that payments can be found at the real provider. Does not belong
here: providers of live payments (`oltp/gateway.py`).
"""

from __future__ import annotations

from contracts.errors import GatewayDeclinedError
from oltp.gateway import Moved


class RecordedGateway:
    """The provider of one payment method; the payment token is the provider's reference of the payment."""

    is_local = True

    def __init__(self, name: str, *, is_declining: bool = False) -> None:
        self.name = name
        self._is_declining = is_declining

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Return the file's reference and the requested amount; GatewayDeclinedError for a declined payment."""
        if self._is_declining:
            raise GatewayDeclinedError(f"The file says that {payment_token} was declined.")
        return Moved(reference=payment_token, amount_minor=amount_minor)

    def expect_transfer(self, *, idempotency_key: str, amount_minor: int, currency: str) -> Moved:
        """Decline: a file has only payments that have ended."""
        raise GatewayDeclinedError("A file of past payments has none that is waited for.")

    def collect(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Decline: a file has only payments that have ended."""
        raise GatewayDeclinedError("A file of past payments has none that is waited for.")

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Return the payment's reference and the amount; a file has one reference for authorization and capture."""
        return Moved(reference=authorization_reference, amount_minor=amount_minor)

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Return the payment's reference."""
        return authorization_reference

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Return the payment's reference; the refund's own reference is stored as its external reference."""
        return authorization_reference

    def give_back(self, *, idempotency_key: str, receipt_reference: str, amount_minor: int, currency: str) -> str:
        """Decline: a file has no money that nothing waited for."""
        raise GatewayDeclinedError("A file of past payments has no unallocated money of a receipt.")
