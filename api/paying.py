"""How a checkout is paid: by a card, a bank transfer, a direct debit or a gift card; and what is to be done then.

Belongs here: which command a way of paying is, and the answer of a checkout. Does not belong here: placing the order
(`api/routes/checkouts.py`, `api/routes/carts.py`), what becomes of the money (`api/routes/payments.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from api.calls import Answer, Call
from api.commands import done_answer
from api.pods import Done
from contracts.errors import (
    CommandUnderWayError,
    ConflictError,
    ContendedError,
    IdempotencyConflictError,
    InputError,
    NotFoundError,
    PodFencedError,
)
from contracts.events.order import OrderState
from contracts.events.payment import PaymentMethod, PaymentState, PaymentStatus
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.execute import Command
from oltp.commands.place_order import PaidBy
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.domain.payments import open_to_authorize_minor
from oltp.idempotency_keys import is_claimed
from oltp.reads.aggregates import state_of, states_by

NOT_OF_THE_CARD = (CommandUnderWayError, ContendedError, IdempotencyConflictError, PodFencedError)
"""Conflicts of the request itself: they say nothing about the gift card."""


class Action(StrEnum):
    """What is to be done so that an order is paid."""

    TRANSFER = "transfer"
    """The customer transfers `amount_minor` to `pay_to`, stating `reference`, until `pay_by`."""
    WAIT = "wait"
    """The customer does nothing: the bank is asked to pay `amount_minor`, and answers until `pay_by`."""
    PAY = "pay"
    """`amount_minor` is not paid: pay it in another way."""


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What of an order is still to be paid, and how."""

    action: Action
    amount_minor: int
    currency: str
    pay_to: str | None = None
    """The account to transfer to."""
    reference: str | None = None
    """What the customer states with the transfer; of a direct debit the provider's reference."""
    pay_by: datetime | None = None
    """Until when the money is waited for; then the order is cancelled if nothing of it is paid."""
    reason: str | None = None
    """Why it was not paid as asked for, in words for people."""


class Checkout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A placed order and its payment."""

    order: OrderState
    payment: PaymentState | None
    """Its status says whether the card was taken, or that money is waited for; null: there is none."""
    due: Due | None = None
    """What is to be done so that the order is paid; only with `payment_method`, and left out when nothing is."""


class PaidBody(Protocol):
    """The part of a checkout's body that says how it is paid."""

    @property
    def payment_method(self) -> PaidBy | None:
        """The way of paying; None: by a card if there is a token, else later."""

    @property
    def payment_token(self) -> str | None:
        """The provider's token."""

    @property
    def gift_card_id(self) -> str | None:
        """The gift card."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """What a way of paying needs of the body."""

    needs_token: bool = False
    needs_gift_card: bool = False
    later: PaymentMethod | None = None
    """How the money comes later; None: it does not."""


WAYS: Mapping[PaidBy, Way] = {
    PaidBy.CARD: Way(needs_token=True),
    PaidBy.BANK_TRANSFER: Way(later=PaymentMethod.BANK_TRANSFER),
    PaidBy.DIRECT_DEBIT: Way(needs_token=True, later=PaymentMethod.DIRECT_DEBIT),
    PaidBy.GIFT_CARD: Way(needs_gift_card=True),
}


def check_payment(body: PaidBody) -> None:
    """Raise InputError unless the body has exactly what its way of paying needs; before anything is ordered."""
    if body.payment_method is None:
        if body.gift_card_id is not None:
            raise InputError("gift_card_id needs the payment_method gift_card.")
        return
    way = WAYS[body.payment_method]
    for name, is_needed, value in (
        ("payment_token", way.needs_token, body.payment_token),
        ("gift_card_id", way.needs_gift_card, body.gift_card_id),
    ):
        if is_needed and value is None:
            raise InputError(f"The payment_method {body.payment_method} needs {name}.")
        if value is not None and not is_needed:
            raise InputError(f"The payment_method {body.payment_method} takes no {name}.")


def paid(call: Call, placed: Done, body: PaidBody, idempotency_key: str) -> Answer:
    """Pay an order that was placed, as its body says; return the answer with both."""
    order: OrderState = placed.answer
    command = payment_of(order, body)
    if command is None:
        if placed.is_replayed and order.total_minor:
            _require_not_paid(call, order, idempotency_key)
        return done_answer(call, placed, Checkout(order=order, payment=None))
    try:
        payment = call.services.pods.execute(command, idempotency_key=idempotency_key)
    except (ConflictError, NotFoundError) as refused:
        if not isinstance(command, RedeemGiftCard) or isinstance(refused, NOT_OF_THE_CARD):
            raise
        # As with a declined card the order stands, and can be paid in another way.
        return done_answer(call, placed, Checkout(order=order, payment=None, due=_left(call, order, str(refused))))
    both = Done(answer=order, where=payment.where, is_replayed=placed.is_replayed and payment.is_replayed)
    due = None if body.payment_method is None else due_of(order, payment.answer)
    return done_answer(call, both, Checkout(order=order, payment=payment.answer, due=due))


def due_of(order: OrderState, payment: PaymentState) -> Due | None:
    """Return what is to be done after an order's first payment; None: nothing."""
    if payment.status is PaymentStatus.DECLINED:
        return _open(order, order.total_minor, "The payment was declined.")
    if payment.expires_at is not None:
        return Due(
            action=Action.TRANSFER if payment.method is PaymentMethod.BANK_TRANSFER else Action.WAIT,
            amount_minor=payment.authorized_minor,
            currency=payment.currency,
            pay_to=payment.pay_to,
            reference=payment.provider_reference,
            pay_by=payment.expires_at,
        )
    left_minor = order.total_minor - payment.authorized_minor
    return _open(order, left_minor, "The gift card does not hold enough.") if left_minor else None


def payment_of(order: OrderState, body: PaidBody) -> Command[PaymentState] | None:
    """Return the command that pays the order; None when nothing is to be paid now."""
    if order.total_minor == 0:
        return None
    names: dict[str, Any] = {"merchant_id": order.merchant_id, "order_id": order.order_id}
    if body.gift_card_id is not None:
        return RedeemGiftCard(**names, gift_card_id=body.gift_card_id)
    if body.payment_token is not None:
        names["payment_token"] = body.payment_token
    way = Way() if body.payment_method is None else WAYS[body.payment_method]
    if way.later is not None:
        return AwaitPayment(**names, method=way.later)
    return AuthorizePayment(**names) if body.payment_token is not None else None


def _require_not_paid(call: Call, order: OrderState, idempotency_key: str) -> None:
    """Raise IdempotencyConflictError when the same request has paid before: the order's command has no token."""
    with call.services.pods.reading(order.merchant_id) as connection:
        has_paid = is_claimed(connection, order.merchant_id, idempotency_key)
    if has_paid:
        raise IdempotencyConflictError(
            f"Idempotency key {call.idempotency_key!r} was used for a checkout with a payment_token; use a new key.",
            fields=("payment_token",),
        )


def _left(call: Call, order: OrderState, reason: str) -> Due | None:
    """Return what is open to be paid now: of a repeated request the order may be paid otherwise, or have ended."""
    with call.services.pods.reading(order.merchant_id) as connection:
        present = state_of(connection, OrderState, order.merchant_id, order.order_id)
        payments = states_by(connection, PaymentState, order.merchant_id, "order_id", order.order_id)
    left_minor = open_to_authorize_minor(present, payments)
    return _open(order, left_minor, reason) if left_minor > 0 else None


def _open(order: OrderState, amount_minor: int, reason: str) -> Due:
    return Due(action=Action.PAY, amount_minor=amount_minor, currency=order.currency, reason=reason)
