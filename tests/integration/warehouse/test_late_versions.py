"""A version that was lost and comes late, right or wrong: what builds add cut by cut is what one from nothing has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from contracts.events.common import AggregateState
from contracts.events.order import OrderState
from contracts.events.payment import PaymentCapture, PaymentState, PaymentStatus
from derived.histories_as_of import LEFT_OUT_EVENTS
from derived.lake_connection import open_lake
from derived.leaving_out import LEFT_OUT, take_back
from derived.warehouse import build_warehouse
from tests.commerce import Change, Commerce, with_totals
from tests.conftest import SEED, Cluster
from tests.integration.warehouse import sweep
from tests.integration.warehouse.spoiled import build, cut, ids, named, put_back
from tests.integration.warehouse.world import World

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def world(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(postgres, tmp_path_factory.mktemp("late_versions"), SEED)
    yield made
    made.lake.close()


LATE_TYPES = {"payment": "payment_captured"}


@dataclass(frozen=True, kw_only=True)
class Late:
    """An aggregate whose version 2 is lost, while version 3 comes; what comes in its place later."""

    name: str
    first: AggregateState
    late: AggregateState
    third: AggregateState
    with_it: tuple[Change, ...] = ()
    event_type: str = "changed"
    """Of version 3."""


def _order(commerce: Commerce) -> OrderState:
    """Return an order of several lines, each with one tax."""
    return msgspec.structs.replace(sweep.order(commerce)[0], line_taxes=[])


def orders(commerce: Commerce) -> Iterator[Late]:
    """Yield an order for each way in which its late version can be right or wrong."""
    another = _order(commerce)
    for name in ("fine", "MONEY", "UNEXPLAINED", "LACKING", "SHARED", "restated", "forged third"):
        first = _order(commerce)
        lines = {
            "UNEXPLAINED": [_dearer(first), *first.lines[1:]],
            "LACKING": first.lines[1:],
            "SHARED": [
                *first.lines,
                msgspec.structs.replace(first.lines[0], order_line_id=another.lines[0].order_line_id),
            ],
        }.get(name, first.lines)
        late = with_totals(msgspec.structs.replace(first, version=2, lines=lines))
        third = msgspec.structs.replace(first, version=3)
        yield Late(
            name=f"order {name}",
            first=first,
            late=msgspec.structs.replace(late, total_minor=late.total_minor + 1) if name == "MONEY" else late,
            third=msgspec.structs.replace(third, total_minor=third.total_minor + 1)
            if name == "forged third"
            else third,
            with_it=((another, "order_placed", commerce.now),) if name == "SHARED" else (),
            event_type="order_restated" if name == "restated" else "order_fulfilled",
        )


def _dearer(order: OrderState) -> msgspec.Struct:
    """Return the first line of an order for one minor unit more, all its sums in agreement."""
    line = order.lines[0]
    return msgspec.structs.replace(
        line,
        quantity=1,
        amount_minor=line.amount_minor + 1,
        unit_price_micro=line.unit_price_micro * line.quantity
        + (line.unit_price_micro * line.quantity - line.rounding_micro) // line.amount_minor,
        total_minor=line.total_minor + 1,
        taxable_minor=line.taxable_minor + 1,
    )


def payments(commerce: Commerce) -> Iterator[Late]:
    """Yield the same of payments: the lost version captures."""
    for name in ("fine", "MONEY", "UNEXPLAINED", "restated", "forged third"):
        order = _order(commerce)
        first = msgspec.structs.replace(
            commerce.payments[order.order_id], order_id=order.order_id, authorized_minor=100
        )
        capture = PaymentCapture(
            payment_capture_id=commerce.new_id(), amount_minor=60, provider_reference="c", captured_at=commerce.now
        )
        late = msgspec.structs.replace(
            first, version=2, status=PaymentStatus.CAPTURED, captured_minor=60, captures=[capture]
        )
        third = msgspec.structs.replace(late, version=3)
        wrong: dict[str, Any] = {"MONEY": {"captured_minor": 61}, "UNEXPLAINED": {"authorized_minor": 101}}.get(
            name, {}
        )
        assert isinstance(first, PaymentState)
        yield Late(
            name=f"payment {name}",
            first=first,
            late=msgspec.structs.replace(late, **wrong),
            third=msgspec.structs.replace(third, captured_minor=59) if name == "forged third" else third,
            with_it=((order, "order_placed", commerce.now),),
            event_type="payment_restated" if name == "restated" else "payment_captured",
        )


def refunds(commerce: Commerce) -> Iterator[Late]:
    """Yield the same of completed refunds, each with its payment."""
    another = sweep.given_back(commerce)
    for name in ("fine", "MONEY", "UNEXPLAINED", "LACKING", "SHARED", "restated", "forged third"):
        paid, first = sweep.given_back(commerce)
        line = first.lines[0]
        more = msgspec.structs.replace(line, refund_line_id=another[1].lines[0].refund_line_id, amount_minor=0)
        wrong: dict[str, dict[str, Any]] = {
            "MONEY": {"tax_minor": 5},
            "UNEXPLAINED": {"lines": [msgspec.structs.replace(line, quantity=2)]},
            "LACKING": {"line_taxes": []},
            "SHARED": {"lines": [line, msgspec.structs.replace(more, tax_minor=0)]},
        }
        changes = wrong.get(name, {})
        third = msgspec.structs.replace(first, version=3)
        with_it: list[Change] = [(paid, "payment_refunded", commerce.now)]
        if name == "SHARED":
            with_it += [(another[0], "payment_refunded", commerce.now), (another[1], "refund_completed", commerce.now)]
        yield Late(
            name=f"refund {name}",
            first=first,
            late=msgspec.structs.replace(first, version=2, **changes),
            third=msgspec.structs.replace(third, amount_minor=9) if name == "forged third" else third,
            with_it=tuple(with_it),
            event_type="refund_restated" if name == "restated" else "refund_completed",
        )


def adjustments(commerce: Commerce) -> Iterator[Late]:
    """Yield the same of adjustments."""
    for name in ("fine", "MONEY", "UNEXPLAINED", "LACKING", "restated", "forged third"):
        first = sweep.adjustment(commerce)[0]
        wrong: dict[str, dict[str, Any]] = {
            "MONEY": {"tax_minor": -5},
            "UNEXPLAINED": {"amount_minor": -51},
            "LACKING": {"tax_minor": 0, "tax_category": None, "taxes": []},
        }
        changes = wrong.get(name, {})
        third = msgspec.structs.replace(first, version=3)
        yield Late(
            name=f"adjustment {name}",
            first=first,
            late=msgspec.structs.replace(first, version=2, **changes),
            third=msgspec.structs.replace(third, tax_minor=-5) if name == "forged third" else third,
            event_type="adjustment_restated" if name == "restated" else "adjustment_booked",
        )


def left_out(world: World) -> list[tuple[object, ...]]:
    """Return all that is recorded of what is or was left out."""
    records = world.rows(f"select columns(* exclude (build_id)) from {LEFT_OUT} order by all")
    return [*records, *world.rows(f"from {LEFT_OUT_EVENTS} order by all")]


def versions(world: World, one: AggregateState) -> list[int]:
    """Return which versions of an aggregate the warehouse has."""
    kind = one.AGGREGATE_TYPE
    found = world.rows(
        f"select version from lake.intermediate.int_{kind}s_history where {kind}_id = '{one.aggregate_id}' order by 1"
    )
    return [int(str(version)) for (version,) in found]


Seen = tuple[dict[str, list[str]], list[tuple[object, ...]]]


def seen(world: World) -> Seen:
    """Return all that the warehouse stores, and what it leaves out."""
    return world.stored(), left_out(world)


def differing(before: Seen, after: Seen) -> dict[str, set[object]]:
    """Return the rows, by table, that only one of both has."""
    tables = {name: set(before[0][name]) ^ set(after[0][name]) for name in before[0] | after[0]}
    return {name: set(rows) for name, rows in (tables | {"left out": set(before[1]) ^ set(after[1])}).items() if rows}


@pytest.mark.long
def test_a_version_that_comes_late_is_judged_as_a_build_from_nothing_judges_it(world: World) -> None:
    commerce = world.commerce["pod1"]
    late = [one for make in (orders, payments, refunds, adjustments) for one in make(commerce)]
    cut(world, [change for one in late for change in (*one.with_it, (one.first, "first", commerce.now))])
    build(world)
    assert named(world) == {}
    cut(world, [(one.third, one.event_type, commerce.now) for one in late])
    build(world)
    is_out = {one.name for one in late if one.first.aggregate_id in named(world)}
    assert is_out == {one.name for one in late if not one.name.endswith("restated")}
    cut(world, [(one.late, LATE_TYPES.get(one.late.AGGREGATE_TYPE, "changed"), commerce.now) for one in late])
    build(world)

    found = {
        one.name: named(world)[one.first.aggregate_id].defect for one in late if one.first.aggregate_id in named(world)
    }
    kinds = ("order", "payment", "refund", "adjustment")
    assert found == {f"{kind} restated": "TWICE" for kind in kinds} | {
        f"{kind} forged third": "MONEY" for kind in kinds
    }
    # What came late and is right is there with what waited for it; what is wrong never is, whatever comes after it.
    has = {"fine": [1, 2, 3], "forged third": [1]}
    for one in late:
        assert versions(world, one.first) == has.get(one.name.partition(" ")[2], [1, 3]), one.name

    before, latest = seen(world), world.pods["pod1"].cut_number
    assert build_warehouse(world.settings, since={"pod1": latest - 1}).is_complete
    assert differing(before, seen(world)) == {}, "also where a build begins while they were left out"
    build(world, full_refresh=True)
    assert differing(before, seen(world)) == {}
    with open_lake(world.settings) as lake:
        take_back(lake, "pod1", 0)
    build(world, full_refresh=True)
    assert differing(before, seen(world)) == {}, "without what earlier builds found, too"


@pytest.mark.in_turn("left out", seconds=28)
def test_of_copies_that_differ_none_is_taken(world: World) -> None:
    commerce = world.commerce["pod1"]
    order = _order(commerce)
    (event,) = cut(world, [(order, "order_placed", commerce.now)])
    cheaper = with_totals(msgspec.structs.replace(order, lines=order.lines[:1]))
    payload = json.loads(str(event["payload"])) | {"state": json.loads(msgspec.json.encode(cheaper))}
    put_back(world, event | {"payload": json.dumps(payload)})
    build(world)
    assert named(world)[order.order_id].defect == "TWICE" and order.order_id not in ids(world, "orders")
    again = msgspec.structs.replace(order, version=2)
    cut(world, [(again, "order_restated", commerce.now)])
    build(world)
    assert versions(world, order) == [2]
