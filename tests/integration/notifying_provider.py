"""A stateful imitation of a payment provider that writes a notification of everything that it does.

Belongs here: the imitation. Does not belong here: delivering what it writes (the tests do, in every order).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contracts.errors import GatewayDeclinedError
from contracts.ids import uuid7
from oltp.domain.notifications import Notification, NotificationKind
from oltp.gateway import Moved
from tests.integration.shop import MERCHANT, NOW
from tests.integration.test_provider_calls import Provider


class Notifying(Provider):
    """A provider with accounts that also writes what it did, each thing once, for whoever delivers it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Notification] = []
        self.receipts: dict[str, str] = {}
        """For which payment it has a receipt of money, by references."""

    def write(self, kind: NotificationKind, key: str | None, **says: Any) -> Notification:
        """Write a notification."""
        one = Notification(
            id=f"evt_{uuid7()}", type=kind, merchant_id=MERCHANT, created_at=NOW, idempotency_key=key, **says
        )
        self.written.append(one)
        return one

    def authorize(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Set aside, and write so; a decline is written, too."""
        says: dict[str, Any] = {"amount_minor": amount_minor, "currency": currency}
        is_new = f"auth {idempotency_key}" not in self.answers
        with self._acting():
            try:
                moved = super().authorize(idempotency_key=idempotency_key, payment_token=payment_token, **says)
            except GatewayDeclinedError:
                self.write(NotificationKind.AUTHORIZATION_FAILED, idempotency_key, reason="No cover.", **says)
                raise
            if is_new:
                says["authorization_reference"] = moved.reference
                self.write(NotificationKind.AUTHORIZATION_SUCCEEDED, idempotency_key, **says)
        return moved

    def expect_transfer(self, *, idempotency_key: str, amount_minor: int, currency: str) -> Moved:
        """Wait for a transfer, and write so."""
        says: dict[str, Any] = {"amount_minor": amount_minor, "currency": currency}
        is_new = f"tran {idempotency_key}" not in self.answers
        with self._acting():
            moved = super().expect_transfer(idempotency_key=idempotency_key, **says)
            if is_new:
                says |= {"authorization_reference": moved.reference, "pay_to": moved.pay_to}
                self.write(NotificationKind.PAYMENT_PENDING, idempotency_key, **says)
        return moved

    def collect(self, *, idempotency_key: str, amount_minor: int, currency: str, payment_token: str) -> Moved:
        """Begin to collect, and write so; a refusal is written, too."""
        says: dict[str, Any] = {"amount_minor": amount_minor, "currency": currency}
        is_new = f"debi {idempotency_key}" not in self.answers
        with self._acting():
            try:
                moved = super().collect(idempotency_key=idempotency_key, payment_token=payment_token, **says)
            except GatewayDeclinedError:
                self.write(NotificationKind.PAYMENT_FAILED, idempotency_key, reason="No mandate.", **says)
                raise
            if is_new:
                says["authorization_reference"] = moved.reference
                self.write(NotificationKind.PAYMENT_PENDING, idempotency_key, **says)
        return moved

    def capture(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> Moved:
        """Take, and write so."""
        says: dict[str, Any] = {
            "authorization_reference": authorization_reference,
            "amount_minor": amount_minor,
            "currency": currency,
        }
        is_new = f"capt {idempotency_key}" not in self.answers
        with self._acting():
            moved = super().capture(idempotency_key=idempotency_key, **says)
            if is_new:
                self.write(NotificationKind.CAPTURE_SUCCEEDED, idempotency_key, reference=moved.reference, **says)
        return moved

    def void(self, *, idempotency_key: str, authorization_reference: str) -> str:
        """Let go, and write so."""
        is_new = self.set_aside[authorization_reference] > 0
        says: dict[str, Any] = {"authorization_reference": authorization_reference}
        with self._acting():
            reference = super().void(idempotency_key=idempotency_key, **says)
            if is_new:
                self.write(NotificationKind.AUTHORIZATION_VOIDED, idempotency_key, reference=reference, **says)
        return reference

    def refund(self, *, idempotency_key: str, authorization_reference: str, amount_minor: int, currency: str) -> str:
        """Give back, and write so."""
        says: dict[str, Any] = {
            "authorization_reference": authorization_reference,
            "amount_minor": amount_minor,
            "currency": currency,
        }
        is_new = f"refd {idempotency_key}" not in self.answers
        with self._acting():
            reference = super().refund(idempotency_key=idempotency_key, **says)
            if is_new:
                self.write(NotificationKind.REFUND_SUCCEEDED, idempotency_key, reference=reference, **says)
        return reference

    def give_back(self, *, idempotency_key: str, receipt_reference: str, amount_minor: int, currency: str) -> str:
        """Send back, and write so; a refusal is written, too."""
        says: dict[str, Any] = {"amount_minor": amount_minor, "currency": currency}
        is_new = f"back {idempotency_key}" not in self.answers
        named = {"reference": receipt_reference, "authorization_reference": self.receipts.get(receipt_reference)}
        with self._acting():
            try:
                reference = super().give_back(
                    idempotency_key=idempotency_key, receipt_reference=receipt_reference, **says
                )
            except GatewayDeclinedError:
                self.write(NotificationKind.PAYMENT_NOT_GIVEN_BACK, idempotency_key, reason="Closed.", **named, **says)
                raise
            if is_new:
                self.write(NotificationKind.PAYMENT_GIVEN_BACK, idempotency_key, **named, **says)
        return reference

    def expire(self, reference: str) -> Notification:
        """Let an authorization go without being asked."""
        self.set_aside[reference] = 0
        return self.write(NotificationKind.AUTHORIZATION_VOIDED, None, authorization_reference=reference)

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """Run `before_answer` only when the notification is written, too."""
        waiting, self.before_answer = self.before_answer, lambda: None
        try:
            yield
        finally:
            self.before_answer = waiting
        self.before_answer()
