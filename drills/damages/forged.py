"""Damages of OLTP by an expert: the figures are consistent with each other, but no event exists for them.

They are written with the rights of the tables' owner. Belongs here: these damages, and a person's decision about them.
Does not belong here: damages that break consistency (`drills/damages/oltp.py`), the required outcomes
(`drills/damages/people.py`).
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from contracts.breaks import UNSETTLED
from contracts.events import STATE_TYPES
from contracts.events.changes import state_digest
from contracts.events.common import AggregateState
from contracts.events.gift_card import GiftCardState, GiftCardStatus
from contracts.events.order import OrderLine, OrderState, OrderStatus
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.ids import uuid7
from contracts.money import line_amount, tax_of
from drills.damages.place import Harm, Place, Target, harm
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.put_back import PutBack
from oltp.domain.pricing import totals_of
from oltp.store.mapping import MAPPINGS
from repair import ledger
from repair.deciding import correct, look


def state_of(place: Place, target: Target) -> AggregateState:
    """Return the state of an aggregate in OLTP's tables."""
    state_type = STATE_TYPES[target.kind]
    with place.oltp() as connection:
        connection.execute("set local timezone = 'UTC'")
        query = MAPPINGS[state_type].select(state_type.ID_FIELD)
        ((text,),) = connection.execute(query, [target.merchant_id, target.aggregate_id]).fetchall()
    return msgspec.json.decode(text, type=state_type)


def forge(place: Place, target: Target, before: AggregateState | None, after: AggregateState | None) -> Harm:
    """Write an aggregate's rows as the owner, without an event; all other rules of the database stay active."""
    pod = place.settings.pod(place.pod)
    forged = PutBack(
        merchant_id=target.merchant_id,
        aggregate_type=target.kind,
        aggregate_id=target.aggregate_id,
        said=None if after is None else msgspec.json.encode(after).decode(),
        shown_digest=None if before is None else state_digest(before),
        reason="a hand that writes past the commands",
    )
    with build_command_pod(replace(pod, app_dsn=pod.owner_dsn), connections_max=1) as owner:
        execute(owner, forged, idempotency_key=f"damage/{uuid7()}")
    return harm(target)


def raise_price(place: Place) -> Harm:
    """Double the price of an order without an event; lines, tax basis and totals stay consistent."""
    return reprice(place, place.take("order", "uncancelled"), 2)


def reprice(place: Place, target: Target, times: int) -> Harm:
    """Multiply the prices of an order and recompute all other amounts consistently."""
    before = state_of(place, target)
    assert isinstance(before, OrderState)
    lines = [_repriced(line, times, before.currency) for line in before.lines]
    after = msgspec.structs.replace(before, lines=lines, **msgspec.structs.asdict(totals_of(lines)))
    return forge(place, target, before, after)


def insert_gift_card(place: Place) -> Harm:
    """Insert a gift card without a command: money that nobody has received."""
    like = place.take("gift_card")
    target = Target(kind="gift_card", merchant_id=like.merchant_id, aggregate_id=str(uuid7()), traits=frozenset())
    state = state_of(place, like)
    assert isinstance(state, GiftCardState)
    forged = msgspec.structs.replace(
        state,
        gift_card_id=target.aggregate_id,
        version=1,
        status=GiftCardStatus.ACTIVE,
        credited_minor=0,
        redeemed_minor=0,
        expired_minor=0,
        balance_minor=state.issued_minor,
        expired_at=None,
    )
    return forge(place, target, None, forged)


def insert_order(place: Place) -> Harm:
    """Insert a consistent order without a command."""
    like = place.take("order")
    state = state_of(place, like)
    assert isinstance(state, OrderState)
    unopened = {"cancelled_quantity": 0, "cancelled_minor": 0, "cancelled_tax_minor": 0, "fulfilled_quantity": 0}
    lines = [msgspec.structs.replace(line, order_line_id=str(uuid7()), **unopened) for line in state.lines]
    discounts = [msgspec.structs.replace(one, order_discount_id=str(uuid7())) for one in state.discounts]
    target = Target(kind="order", merchant_id=like.merchant_id, aggregate_id=str(uuid7()), traits=frozenset())
    forged = msgspec.structs.replace(
        state,
        version=1,
        order_id=target.aggregate_id,
        order_number=target.aggregate_id,
        status=OrderStatus.PLACED,
        reservation_id=None,
        lines=lines,
        discounts=sorted(discounts, key=lambda one: one.order_discount_id),
        **msgspec.structs.asdict(totals_of(lines)),
    )
    return forge(place, target, None, forged)


def insert_payment(place: Place) -> Harm:
    """Insert a payment without an authorization."""
    like = place.take("payment")
    state = state_of(place, like)
    assert isinstance(state, PaymentState)
    target = Target(kind="payment", merchant_id=like.merchant_id, aggregate_id=str(uuid7()), traits=frozenset())
    forged = msgspec.structs.replace(
        state,
        version=1,
        payment_id=target.aggregate_id,
        status=PaymentStatus.AUTHORIZED,
        captured_minor=0,
        refunded_minor=0,
        captures=[],
    )
    return forge(place, target, None, forged)


def delete_payment(place: Place) -> Harm:
    """Delete a payment with its captures."""
    target = place.take("payment", "captured", "unrefunded")
    return forge(place, target, state_of(place, target), None)


def _repriced(line: OrderLine, times: int, currency: str) -> OrderLine:
    price = line.unit_price_micro * times
    amount_minor, rounding_micro = line_amount(line.quantity, price, currency)
    net_minor = amount_minor - line.discount_minor
    tax_minor = tax_of(net_minor, line.rate_ppm, is_inclusive=line.is_tax_inclusive)
    total_minor = net_minor if line.is_tax_inclusive else net_minor + tax_minor
    return msgspec.structs.replace(
        line,
        unit_price_micro=price,
        amount_minor=amount_minor,
        rounding_micro=rounding_micro,
        taxable_minor=total_minor - tax_minor,
        tax_minor=tax_minor,
        total_minor=total_minor,
    )


def correct_by_command(place: Place, done: Harm) -> None:
    """Decide with `tieout breaks correct`, as a person does, that the events are right."""
    settings = place.settings
    for key in sorted(done.aggregates):
        waiting = ledger.breaks(settings.control_dsn, pod=place.pod, aggregate_keys=[key], states=UNSETTLED, limit=1)
        shown = look(settings, waiting[0].break_id, place.tools.projection)
        if not shown.known.is_stated:
            correct(settings, shown, by="a person", reason="nobody asked for it")
