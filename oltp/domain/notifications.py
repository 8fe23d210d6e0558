"""A notification of the payment provider, as a value: what it says happened there, and how far we are with it.

Belongs here: the value, its states, and what one is when it is read. Does not belong here: its signature
(`api/provider_signatures.py`), storing it (`oltp/store/notifications.py`), what it changes
(`oltp/commands/apply_notification.py`).

A notification and the answer to our own call are two messages about one fact. Either may come first, and a notification
may come twice, late, or after a later one. So none is applied by its arrival: each is compared with what is recorded
here, and what is recorded already is recorded once.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec

from contracts.errors import InputError
from contracts.events.common import Value
from contracts.limits import MERCHANT_REFERENCE, REFERENCE

BY_HAND = "by hand"
"""The provider of what a person has said instead of the provider; such rows are kept for ever."""

WAITS_AT_MOST = timedelta(hours=1)
"""After this time a notification that still waits is parked. The longest wait that heals by itself is that of a call
which `oltp/settling.py` finishes, after ten minutes."""

WAITING_SECONDS_MAX = 900.0
"""Notifications that have waited longer are an alarm."""

NOTIFICATION_BYTES_MAX = 64 << 10
"""The largest notification."""


class NotificationKind(StrEnum):
    """What can have happened at the provider."""

    AUTHORIZATION_SUCCEEDED = "authorization.succeeded"
    AUTHORIZATION_FAILED = "authorization.failed"
    AUTHORIZATION_VOIDED = "authorization.voided"
    """The rest of an authorization was let go, because we asked for it or because it expired."""
    CAPTURE_SUCCEEDED = "capture.succeeded"
    CAPTURE_FAILED = "capture.failed"
    REFUND_SUCCEEDED = "refund.succeeded"
    REFUND_FAILED = "refund.failed"
    """Also after it had succeeded: the money came back to the provider."""
    DISPUTE_OPENED = "dispute.opened"
    DISPUTE_WON = "dispute.won"
    DISPUTE_LOST = "dispute.lost"
    PAYMENT_PENDING = "payment.pending"
    """A bank transfer is expected, or a direct debit is under way."""
    PAYMENT_RECEIVED = "payment.received"
    """Money of a bank transfer came, or a direct debit was paid."""
    PAYMENT_FAILED = "payment.failed"
    """The bank does not pay a direct debit."""
    PAYMENT_RETURNED = "payment.returned"
    """The bank took back what had been received, as a whole."""
    PAYMENT_GIVEN_BACK = "payment.given_back"
    """What nothing waited for of a receipt was sent back to the customer, because we asked for it or without that."""
    PAYMENT_NOT_GIVEN_BACK = "payment.not_given_back"
    """It cannot be sent back."""


DISPUTE_KINDS = (NotificationKind.DISPUTE_OPENED, NotificationKind.DISPUTE_WON, NotificationKind.DISPUTE_LOST)


class NotificationState(StrEnum):
    """How far we are with a notification."""

    PENDING = "pending"
    """It waits for what it is about, which is not recorded here yet."""
    APPLIED = "applied"
    """What it says is recorded, by it or by another message."""
    PARKED = "parked"
    """It contradicts what is recorded, or nothing here claims it: a person decides."""
    DISMISSED = "dismissed"
    """A person has decided that nothing is to be recorded for it."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One notification, as the provider writes it, maybe with further fields. Amounts in minor units of `currency`."""

    id: str
    """The provider's id of it; the same one when it is sent again."""
    type: str
    """A `NotificationKind`; another one is kept for a person."""
    merchant_id: str
    """Whose money it is about: the merchant that our call named."""
    created_at: datetime
    """When it happened at the provider."""
    idempotency_key: str | None = None
    """The key of the call that it is about; None: nobody here asked for it."""
    authorization_reference: str | None = None
    """The provider's reference of the authorization that it is about, or of the payment whose money comes later."""
    reference: str | None = None
    """The provider's reference of what happened: of the capture, the void, the refund, or the receipt of money."""
    amount_minor: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None
    fee_minor: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    """What the provider keeps for a dispute, or for money that went back."""
    currency: str | None = None
    pay_to: str | None = None
    """For a bank transfer the account that the customer is told."""
    reason: str = ""
    """Why it failed, in the provider's words."""


class Settlement(Value, frozen=True, kw_only=True):
    """What became of a notification in one attempt, and why in one sentence."""

    state: NotificationState
    reason: str = ""


def applied(reason: str = "") -> Settlement:
    """What it says is recorded."""
    return Settlement(state=NotificationState.APPLIED, reason=reason)


def waits(reason: str) -> Settlement:
    """It is tried again later."""
    return Settlement(state=NotificationState.PENDING, reason=reason)


def parked(reason: str) -> Settlement:
    """A person decides."""
    return Settlement(state=NotificationState.PARKED, reason=reason)


def require_storable(notification: Notification) -> None:
    """Raise InputError for a notification whose id or merchant no table can hold; everything else is kept as sent."""
    for name, value, limit in (
        ("id", notification.id, REFERENCE),
        ("merchant_id", notification.merchant_id, MERCHANT_REFERENCE),
    ):
        if problem := limit.problem(value):
            raise InputError(f"The notification's {name} {problem}.")


def stored_reference(reference: str | None) -> str | None:
    """Return the reference by which a notification is found again; None for one that no payment can have."""
    return None if reference is None or REFERENCE.problem(reference) else reference


def problem_of(notification: Notification) -> str | None:
    """Return why a notification can never be applied, whatever is recorded; None: it may be."""
    if notification.type not in set(NotificationKind):
        return f"its type {notification.type[:60]!r} is not known here"
    key = notification.idempotency_key
    if key is not None and not key.startswith(f"{notification.merchant_id}/"):
        return "its idempotency key is not one of its merchant"
    kind = NotificationKind(notification.type)
    if stored_reference(notification.authorization_reference) is None and kind not in _BY_KEY:
        return "it names no authorization"
    if kind in _WITH_AMOUNT and (notification.amount_minor is None or notification.currency is None):
        return "it names no amount with a currency"
    if kind in _WITH_REFERENCE and not notification.reference:
        return "it names no reference of its own"
    return None


_BY_KEY = {
    NotificationKind.AUTHORIZATION_FAILED,
    NotificationKind.CAPTURE_FAILED,
    NotificationKind.REFUND_SUCCEEDED,
    NotificationKind.REFUND_FAILED,
    NotificationKind.PAYMENT_FAILED,
    NotificationKind.PAYMENT_NOT_GIVEN_BACK,
}
_WITH_AMOUNT = {
    NotificationKind.AUTHORIZATION_SUCCEEDED,
    NotificationKind.CAPTURE_SUCCEEDED,
    NotificationKind.REFUND_SUCCEEDED,
    NotificationKind.DISPUTE_OPENED,
    NotificationKind.PAYMENT_PENDING,
    NotificationKind.PAYMENT_RECEIVED,
    NotificationKind.PAYMENT_RETURNED,
    NotificationKind.PAYMENT_GIVEN_BACK,
}
_WITH_REFERENCE = {
    NotificationKind.CAPTURE_SUCCEEDED,
    NotificationKind.REFUND_SUCCEEDED,
    NotificationKind.DISPUTE_OPENED,
    NotificationKind.DISPUTE_WON,
    NotificationKind.DISPUTE_LOST,
    NotificationKind.PAYMENT_RECEIVED,
    NotificationKind.PAYMENT_RETURNED,
    NotificationKind.PAYMENT_GIVEN_BACK,
}
