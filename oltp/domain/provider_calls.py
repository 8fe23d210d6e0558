"""A call to the payment provider, as a value, and the limits that it sets for other commands while it is under way.

Belongs here: the call and these limits. Does not belong here: making the call (`oltp/commands/asking.py`), storing it
(`oltp/store/provider_calls.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from contracts.errors import ConflictError
from contracts.events.common import Value


class CallKind(StrEnum):
    """The operation that the provider is asked for."""

    AUTHORIZE = "authorize"
    TRANSFER = "transfer"
    """Name an account to which the customer transfers the amount."""
    DEBIT = "debit"
    """Collect the amount from the customer's account."""
    CAPTURE = "capture"
    VOID = "void"
    REFUND = "refund"
    GIVE_BACK = "give_back"
    """Send unallocated money of a receipt back to the customer."""
    GIVE_UP = "give_up"
    """Void an authorization that came too late to be recorded as authorized."""


class ProviderCall(Value, frozen=True, kw_only=True):
    """One call. While it is under way, no other command may use the amount that it takes or gives back."""

    kind: CallKind
    provider_key: str
    """The idempotency key at the provider; it stays the same when the call is repeated."""
    order_id: str
    payment_id: str
    refund_id: str | None = None
    subject: str
    """For what sets money aside the payment token; for money that is given back the provider's reference of its
    receipt; for every other kind the provider's reference of what was set aside."""
    amount_minor: int
    currency: str


SETTING_ASIDE = (CallKind.AUTHORIZE, CallKind.TRANSFER, CallKind.DEBIT)
"""The calls that make a new payment of an order."""
MAY_PAY = (*SETTING_ASIDE, CallKind.CAPTURE)
"""The calls whose answer may pay for an order; every other one lets money go."""


def to_be_paid_minor(calls: Sequence[ProviderCall]) -> int:
    """Return the sum in minor units of the new payments that are under way."""
    return sum(in_flight_minor(calls, kind) for kind in SETTING_ASIDE)


def in_flight_minor(calls: Sequence[ProviderCall], kind: CallKind, payment_id: str | None = None) -> int:
    """Return the sum in minor units of the calls of one kind, for one payment or (None) for all."""
    return sum(call.amount_minor for call in calls if call.kind is kind and payment_id in (None, call.payment_id))


def require_no_other(calls: Sequence[ProviderCall], payment_id: str, kinds: Sequence[CallKind]) -> None:
    """Raise ConflictError while a call of one of these kinds is under way for the payment."""
    for call in calls:
        if call.payment_id == payment_id and call.kind in kinds:
            asked = call.kind.replace("_", " ")
            raise ConflictError(
                f"Payment {payment_id}: the provider is being asked to {asked}; try again when that is settled."
            )
