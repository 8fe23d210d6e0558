"""What is asked of the payment provider, as a value, and what its being under way means for everybody else.

Belongs here: the call, and the limits that calls under way put on other commands. Does not belong here: making it
(`oltp/commands/asking.py`), keeping it (`oltp/store/provider_calls.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from contracts.errors import ConflictError
from contracts.events.common import Value


class CallKind(StrEnum):
    """What the provider is asked to do."""

    AUTHORIZE = "authorize"
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    GIVE_UP = "give_up"
    """Void an authorization that came too late to be recorded as one."""


class ProviderCall(Value, frozen=True, kw_only=True):
    """One call. While it is under way, nobody else may use what it is about to take or give back."""

    kind: CallKind
    provider_key: str
    """The key by which the provider knows it, however often it is made."""
    order_id: str
    payment_id: str
    refund_id: str | None = None
    subject: str
    """The payment token of an authorization; for every other kind the provider's reference of the authorization."""
    amount_minor: int
    currency: str


def in_flight_minor(calls: Sequence[ProviderCall], kind: CallKind, payment_id: str | None = None) -> int:
    """Return what calls of a kind ask for, of one payment or of all, in minor units."""
    return sum(call.amount_minor for call in calls if call.kind is kind and payment_id in (None, call.payment_id))


def require_no_other(calls: Sequence[ProviderCall], payment_id: str, kinds: Sequence[CallKind]) -> None:
    """Raise ConflictError while a call of one of these kinds is under way for the payment."""
    for call in calls:
        if call.payment_id == payment_id and call.kind in kinds:
            raise ConflictError(
                f"Payment {payment_id}: the provider is being asked to {call.kind}; try again when that is settled."
            )
