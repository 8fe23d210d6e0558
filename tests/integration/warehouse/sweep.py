"""One event of each kind with each of its values spoiled in turn, for tests: legal JSON that nobody should write."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from contracts.events.adjustment import AdjustmentState, AdjustmentTax
from contracts.events.common import AggregateState
from contracts.events.fulfillment import FulfillmentState
from contracts.events.gift_card import GiftCardFunding, GiftCardState, GiftCardStatus
from contracts.events.order import OrderLineTax, OrderState
from contracts.events.payment import PaymentCapture, PaymentState, PaymentStatus
from contracts.events.refund import RefundLine, RefundLineTax, RefundState, RefundStatus
from contracts.events.stock import ReservationState
from tests import derived_work
from tests.commerce import Change, Commerce

ABSENT = object()
Path = tuple[str | int, ...]
Spoil = Callable[[dict[str, Any]], None]
Make = Callable[[Commerce], tuple[AggregateState, list[Change]]]
VALUES: tuple[object, ...] = (ABSENT, None, {"x": 1}, -7, 2**61, 2**70, "another", [None])


@dataclass(frozen=True, kw_only=True)
class Swept:
    """An aggregate, its only good state, what must be there with it, and what the spoiled event says in its place."""

    state: AggregateState
    with_it: list[Change]
    at: Any
    label: str
    spoiled: dict[str, Any]


def sweep(commerce: Commerce) -> Iterator[Swept]:
    """Yield every aggregate type's state with every spoiled value, each an aggregate of its own."""
    for make in (order, payment, refund, adjustment, gift_card, *_others(commerce)):
        probe = _plain(make(commerce)[0])
        for label, spoil in _spoils(probe):
            state, with_it = make(commerce)
            spoiled = _plain(state)
            spoil(spoiled)
            yield Swept(
                state=state,
                with_it=with_it,
                at=commerce.now,
                label=f"{state.AGGREGATE_TYPE}.{label}",
                spoiled=spoiled,
            )


def _plain(state: AggregateState) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(msgspec.json.encode(state))
    return plain


def _spoils(probe: dict[str, Any]) -> Iterator[tuple[str, Spoil]]:
    for name, value in probe.items():
        if name == "version":
            continue
        yield from _values_of((name,))
        if isinstance(value, list) and value:
            for part in value[0]:
                yield from _values_of((name, 0, part))
            yield f"{name} without the first", partial(_without_first, name=name)
            yield f"{name}, the first twice", partial(_first_twice, name=name)


def _values_of(path: Path) -> Iterator[tuple[str, Spoil]]:
    for value in VALUES:
        label = ".".join(map(str, path))
        yield f"{label}: {'absent' if value is ABSENT else value}", partial(_put, path=path, value=value)


def _without_first(state: dict[str, Any], name: str) -> None:
    state[name].pop(0)


def _first_twice(state: dict[str, Any], name: str) -> None:
    state[name].append(copy.deepcopy(state[name][0]))


def _put(state: Any, path: Path, value: object) -> None:
    for step in path[:-1]:
        state = state[step]
    if value is ABSENT:
        del state[path[-1]]
    else:
        state[path[-1]] = value


def order(commerce: Commerce) -> tuple[OrderState, list[Change]]:
    """Return an order with a discount and two lines or more, the first of which has two taxes."""
    while True:
        placed = next(state for state, *_ in commerce.place() if isinstance(state, OrderState))
        if len(placed.lines) >= 2 and placed.lines[0].tax_minor >= 2 and placed.discounts:
            break
    line = placed.lines[0]
    taxes = [
        OrderLineTax(
            order_line_id=line.order_line_id,
            jurisdiction=jurisdiction,
            rate_ppm=1,
            tax_minor=tax_minor,
            cancelled_tax_minor=0,
        )
        for jurisdiction, tax_minor in (("A", 1), ("B", line.tax_minor - 1))
    ]
    return msgspec.structs.replace(placed, line_taxes=taxes), []


def given_back(commerce: Commerce) -> tuple[PaymentState, RefundState]:
    """Return a payment of which some was given back, and the refund."""
    placed, _ = order(commerce)
    capture = PaymentCapture(
        payment_capture_id=commerce.new_id(), amount_minor=100, provider_reference="c", captured_at=commerce.now
    )
    paid = msgspec.structs.replace(
        commerce.payments[placed.order_id],
        status=PaymentStatus.CAPTURED,
        authorized_minor=100,
        captured_minor=100,
        refunded_minor=10,
        captures=[capture],
    )
    line = RefundLine(
        refund_line_id=commerce.new_id(),
        order_line_id=placed.lines[0].order_line_id,
        quantity=1,
        amount_minor=10,
        tax_minor=4,
        jurisdiction="A",
        tax_category="standard",
        is_restocked=False,
    )
    taxes = [
        RefundLineTax(refund_line_id=line.refund_line_id, jurisdiction=jurisdiction, tax_minor=2)
        for jurisdiction in ("A", "B")
    ]
    given = derived_work.refund(
        paid,
        refund_id=commerce.new_id(),
        status=RefundStatus.COMPLETED,
        amount_minor=10,
        tax_minor=4,
        lines=[line],
        line_taxes=taxes,
        requested_at=commerce.now,
        completed_at=commerce.now,
    )
    return paid, given


def payment(commerce: Commerce) -> tuple[AggregateState, list[Change]]:
    """Return such a payment, with its refund."""
    paid, given = given_back(commerce)
    return paid, [(given, "refund_completed", commerce.now)]


def refund(commerce: Commerce) -> tuple[AggregateState, list[Change]]:
    """Return such a refund, with its payment."""
    paid, given = given_back(commerce)
    return given, [(paid, "payment_refunded", commerce.now)]


def adjustment(commerce: Commerce) -> tuple[AdjustmentState, list[Change]]:
    """Return an adjustment with two taxes."""
    booked = commerce.adjust()[0][0]
    assert isinstance(booked, AdjustmentState)
    taxes = [AdjustmentTax(jurisdiction=name, rate_ppm=1, tax_minor=-2) for name in ("A", "B")]
    return (
        msgspec.structs.replace(
            booked, amount_minor=-50, tax_minor=-4, jurisdiction="A", tax_category="standard", rate_ppm=2, taxes=taxes
        ),
        [],
    )


def gift_card(commerce: Commerce) -> tuple[GiftCardState, list[Change]]:
    """Return a gift card that was sold, spent in part, paid a refund onto, and has ended."""
    booked = commerce.adjust()[0][0]
    assert isinstance(booked, AdjustmentState)
    card = GiftCardState(
        merchant_id=booked.merchant_id,
        version=1,
        gift_card_id=commerce.new_id(),
        currency=booked.currency,
        status=GiftCardStatus.EXPIRED,
        funding=GiftCardFunding.SOLD,
        external_reference="till 1",
        reason="",
        source="test",
        issued_minor=100,
        credited_minor=20,
        redeemed_minor=90,
        expired_minor=30,
        balance_minor=0,
        issued_at=commerce.now,
        expires_at=commerce.now,
        expired_at=commerce.now,
    )
    return card, []


def _others(commerce: Commerce) -> Iterator[Make]:
    """Yield makers of all that has no money."""
    shipped = next(
        state for _ in range(1000) for state, *_ in commerce.fulfill() if isinstance(state, FulfillmentState)
    )
    held = next(state for state, *_ in commerce.place() if isinstance(state, ReservationState))
    kinds = {state.AGGREGATE_TYPE: state for state, *_ in commerce.opening()} | {"fulfillment": shipped}
    for state in (*kinds.values(), held):
        yield partial(_copied, state=state)


def _copied(commerce: Commerce, state: AggregateState) -> tuple[AggregateState, list[Change]]:
    return msgspec.structs.replace(state, **{state.ID_FIELD: commerce.new_id()}), []
