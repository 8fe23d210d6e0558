"""Whatever one aggregate's events say, a build succeeds, and is exact for all others."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from uuid import UUID

import msgspec
import pytest

from contracts.errors import WarehouseError
from contracts.events import STATE_TYPES
from contracts.events.adjustment import AdjustmentTax
from contracts.events.common import AggregateState
from contracts.events.order import OrderEvent, OrderState
from contracts.events.refund import RefundStatus
from derived import leaving_out
from derived.lake_connection import open_lake
from derived.leaving_out import left_out_aggregates
from tests.commerce import Change, Commerce, with_totals
from tests.conftest import Cluster
from tests.integration.warehouse import sweep
from tests.integration.warehouse.spoiled import Event, build, cut, ids, named, traded
from tests.integration.warehouse.sweep import Swept
from tests.integration.warehouse.world import World

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def world(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from traded(postgres, tmp_path_factory.mktemp("left_out_kinds"), pod1=20, pod2=10)


def placed(commerce: Commerce, lines: int = 1) -> OrderState:
    """Return an order with at least that many lines, the first of which is taxed."""
    while True:
        order = next(state for state, *_ in commerce.place() if isinstance(state, OrderState))
        if len(order.lines) >= lines and order.lines[0].tax_minor:
            return order


def of(order: OrderState, event_type: str = OrderEvent.ORDER_PLACED) -> Change:
    return order, event_type, order.placed_at


def version(order: OrderState, number: int, event_type: str = OrderEvent.ORDER_FULFILLED, **changes: object) -> Change:
    """Return a later version whose totals are what its lines say."""
    return of(with_totals(msgspec.structs.replace(order, version=number, **changes)), event_type)


@pytest.mark.in_turn("left out", seconds=50)
def test_a_line_belongs_to_the_order_that_had_it_first(world: World) -> None:
    commerce = world.commerce["pod1"]
    first, second, third = placed(commerce), placed(commerce, 2), placed(commerce)
    taken = [msgspec.structs.replace(second.lines[0], order_line_id=first.lines[0].order_line_id), *second.lines[1:]]
    # Recorded at one moment, and the ids of events say the opposite: the outbox alone says who was first.
    falling = {first.order_id: 3, second.order_id: 2, third.order_id: 1}
    cut(
        world,
        [of(first), version(second, 1, OrderEvent.ORDER_PLACED, lines=taken), of(third)],
        lambda event: event | {"event_id": str(UUID(int=falling[str(event["aggregate_id"])]))},
    )
    assert {one.aggregate_id: one.defect for one in build(world).left_out} == {second.order_id: "SHARED"}
    assert {first.order_id, third.order_id} <= ids(world, "orders")

    # Later, too, and with a later version; a version with lines of its own heals it.
    later = placed(commerce)
    stolen = [msgspec.structs.replace(later.lines[0], order_line_id=third.lines[0].order_line_id)]
    cut(world, [of(later), version(later, 2, lines=stolen), version(second, 2)])
    assert {one.aggregate_id: one.defect for one in build(world).left_out} == {later.order_id: "SHARED"}
    assert second.order_id in ids(world, "orders")
    stored = world.stored()
    build(world, full_refresh=True)
    assert world.stored() == stored, "from nothing it comes to the same"
    assert named(world)[later.order_id].scope == ("order", later.order_id)


@pytest.mark.in_turn("left out", seconds=32)
def test_a_version_without_a_line_that_was_there_leaves_its_order_out(world: World) -> None:
    commerce = world.commerce["pod1"]
    order = placed(commerce, 3)
    cut(world, [of(order)])
    build(world)
    cut(world, [version(order, 2, lines=order.lines[1:])])
    assert order.order_id in {one.aggregate_id for one in build(world).left_out}
    assert named(world)[order.order_id].defect == "LACKING"
    standing = world.rows(f"select version from lake.marts.orders where order_id = '{order.order_id}'")
    assert standing == [(1,)], "it stands as it was before"
    cut(world, [version(order, 3)])
    build(world)
    assert order.order_id not in named(world)


@pytest.mark.in_turn("left out", seconds=13)
def test_what_agrees_in_itself_and_not_with_what_was_before_or_beside_it_is_named(world: World) -> None:
    commerce = world.commerce["pod1"]
    expected: dict[str, str] = {}
    before: list[Change] = []
    changes: list[Change] = []

    def wrong(state: AggregateState, defect: str, *also: Change) -> None:
        expected[getattr(state, "order_id", state.aggregate_id)] = defect
        changes.extend([(state, "spoiled", commerce.now), *also])

    # Adjustments: tax owed nowhere, twice at one place, or no longer where it was.
    tax = AdjustmentTax(jurisdiction="A", rate_ppm=1, tax_minor=-2)
    wrong(msgspec.structs.replace(sweep.adjustment(commerce)[0], jurisdiction=None, taxes=[]), "MONEY")
    wrong(msgspec.structs.replace(sweep.adjustment(commerce)[0], taxes=[tax, tax]), "MONEY")
    booked = sweep.adjustment(commerce)[0]
    before.append((booked, "adjustment_booked", commerce.now))
    wrong(msgspec.structs.replace(booked, version=2, tax_minor=0, tax_category=None, taxes=[]), "LACKING")

    # Amounts that agree with each other and that no event explains, one of each type; a capture that is there twice.
    booked = sweep.adjustment(commerce)[0]
    before.append((booked, "adjustment_booked", commerce.now))
    wrong(msgspec.structs.replace(booked, version=2, amount_minor=-51), "UNEXPLAINED")
    paid, refund = sweep.given_back(commerce)
    before.extend([(paid, "payment_refunded", commerce.now), (refund, "refund_completed", commerce.now)])
    wrong(msgspec.structs.replace(paid, version=2, authorized_minor=101), "UNEXPLAINED")
    paid, refund = sweep.given_back(commerce)
    before.extend([(paid, "payment_refunded", commerce.now), (refund, "refund_completed", commerce.now)])
    other_lines = [msgspec.structs.replace(refund.lines[0], quantity=2)]
    wrong(msgspec.structs.replace(refund, version=2, lines=other_lines), "UNEXPLAINED")
    paid = msgspec.structs.replace(sweep.given_back(commerce)[0], authorized_minor=200, refunded_minor=0)
    before.append((paid, "payment_captured", commerce.now))
    twice = {"captures": paid.captures * 2, "captured_minor": 200}
    wrong(msgspec.structs.replace(paid, version=2, **twice), "MONEY")

    # Refunds that are not of their payment's merchant or order; a payment that moves to another order.
    paid, refund = sweep.given_back(commerce)
    other_merchant = next(name for name, *_ in commerce.merchants if name != paid.merchant_id)
    refund = msgspec.structs.replace(refund, merchant_id=other_merchant)
    wrong(paid, "REFUNDS", (refund, "refund_completed", commerce.now))
    paid, refund = sweep.given_back(commerce)
    wrong(paid, "REFUNDS")
    wrong(msgspec.structs.replace(refund, order_id=commerce.new_id()), "REFUNDS")
    paid = msgspec.structs.replace(sweep.given_back(commerce)[0], refunded_minor=0)
    before.append((paid, "payment_captured", commerce.now))
    expected[paid.order_id] = "OTHER_ORDER"
    moved = msgspec.structs.replace(paid, version=2, order_id=commerce.new_id())
    changes.append((moved, "payment_restated", commerce.now))

    # Two refunds with one line; an order of the other pod with a line of this one's.
    pairs = [sweep.given_back(commerce) for _ in range(2)]
    before.extend([(pairs[0][0], "payment_refunded", commerce.now), (pairs[0][1], "refund_completed", commerce.now)])
    taken = msgspec.structs.replace(pairs[1][1], lines=pairs[0][1].lines, line_taxes=pairs[0][1].line_taxes)
    wrong(taken, "SHARED", (pairs[1][0], "payment_refunded", commerce.now))
    mine, theirs = placed(commerce), placed(world.commerce["pod2"])
    lines = [msgspec.structs.replace(theirs.lines[0], order_line_id=mine.lines[0].order_line_id), *theirs.lines[1:]]
    changes.append(of(mine))

    # Each amount fits, what was sold does not.
    line = msgspec.structs.replace(
        placed(commerce).lines[0], quantity=1, unit_price_micro=2**62 - 2**62 % 10_000, amount_minor=2**62 // 10_000,
        rounding_micro=0, discount_minor=0, is_tax_inclusive=True, tax_minor=-(2**62 // 10_000),
        taxable_minor=2 * (2**62 // 10_000), total_minor=2**62 // 10_000,
    )  # fmt: skip
    large = next(one for one in iter(lambda: placed(commerce), None) if one.currency == "GBP")
    wrong(with_totals(msgspec.structs.replace(large, lines=[line])), "TOO_LARGE")

    # A completed refund that fails after all, and its payment says so: that is right, and is booked back.
    paid, refund = sweep.given_back(commerce)
    before.extend([(paid, "payment_refunded", commerce.now), (refund, "refund_completed", commerce.now)])
    failed = msgspec.structs.replace(refund, version=2, status=RefundStatus.FAILED)
    changes.append((failed, "refund_failed", commerce.now))
    changes.append((msgspec.structs.replace(paid, version=2, refunded_minor=0), "payment_restated", commerce.now))

    cut(world, before)
    cut(world, changes)
    cut(world, [version(theirs, 1, lines=lines)], pod="pod2")
    found = {one.scope[1]: one.defect for one in build(world).left_out}
    assert {key: found.get(key) for key in expected} == expected
    assert found.get(theirs.order_id) == "SHARED" and mine.order_id in ids(world, "orders")
    booked_back = "select sum(amount_micro)::bigint, count(*) from lake.marts.journal where account = 'refunds'"
    assert world.rows(f"{booked_back} and aggregate_id = '{refund.refund_id}'") == [(0, 2)]


@pytest.mark.in_turn("left out", seconds=38)
@pytest.mark.parametrize("one_in", [4, pytest.param(1, marks=pytest.mark.long)])
def test_no_value_of_one_aggregate_stops_a_build_or_counts_for_another(
    world: World, one_in: int, rng: random.Random
) -> None:
    """Every field of every state in turn is absent, null, of another type, negative, huge, another's, ...

    In pod1 in a second version after a good one, in pod2 in the first. Some of them in every run, all of them in
    `make scenarios`.
    """
    swept = {
        pod: [one for one in sweep.sweep(world.commerce[pod]) if one_in == 1 or rng.randrange(one_in) == 0]
        for pod in world.pods
    }
    good = {pod: placed(world.commerce[pod]) for pod in world.pods}
    for pod in world.pods:
        cut(world, [one for each in swept[pod] for one in each.with_it], pod=pod)
    cut(world, [(one.state, "first_seen", one.at) for one in swept["pod1"]])
    build(world)
    for pod, states in swept.items():
        number = 2 if pod == "pod1" else 1
        changes: list[Change] = [(msgspec.structs.replace(one.state, version=number), "seen", one.at) for one in states]
        payloads = {one.state.aggregate_id: json.dumps({"state": one.spoiled | {"version": number}}) for one in states}

        def spoil(event: Event, payloads: dict[str, str] = payloads) -> Event:
            text = payloads.get(str(event["aggregate_id"]))
            return event if text is None else event | {"payload": text}

        cut(world, [*changes, of(good[pod])], spoil, pod=pod)
    build(world)
    assert {one.order_id for one in good.values()} <= ids(world, "orders")
    for pod, states in swept.items():
        wrong = silently_wrong(world, pod, states)
        assert not wrong, "\n".join(wrong)


def silently_wrong(world: World, pod: str, states: list[Swept]) -> list[str]:
    """Return what is not named and not there as its event says, or named and there although it never was good."""
    with open_lake(world.settings, read_only=True) as lake:
        # What is of one order by its own word can be of several merchants: keys without them.
        named = {key.partition("/")[2] for key in left_out_aggregates(lake, pod, world.pods[pod].cut_number)}
        standing = {
            (kind, row[state.ID_FIELD]): row
            for kind, state in STATE_TYPES.items()
            for row in lake.execute(
                f"from lake.intermediate.int_{kind}s_history where pod = ? and valid_to_cut is null", [pod]
            )
            .to_arrow_table()
            .to_pylist()
        }
    wrong = []
    for one in states:
        kind, aggregate_id = one.state.AGGREGATE_TYPE, one.state.aggregate_id
        row = standing.get((kind, aggregate_id))
        if f"{kind}/{aggregate_id}" in named:
            expected = None if pod == "pod2" else 1
            if (row and row["version"]) != expected:
                wrong.append(f"{one.label}: named, and there")
        elif row is None:
            wrong.append(f"{one.label}: neither named nor there")
        else:
            wrong += [
                f"{one.label}: {name} is {row[name]}"
                for name, value in one.spoiled.items()
                if isinstance(value, int) and not isinstance(row[name], bool) and name != "version"
                if row[name] not in (value, str(value))
            ]
    return wrong


@pytest.mark.long
def test_more_than_the_limit_is_refused_until_enough_are_healed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving_out, "LEFT_OUT_MAX", 2)
    monkeypatch.setattr(leaving_out, "SCOPES_AT_ONCE", 1)
    commerce = world.commerce["pod1"]
    bad = [placed(commerce) for _ in range(3)]
    cut(world, [of(msgspec.structs.replace(order, total_minor=order.total_minor + 1)) for order in bad])
    before = named(world)
    with pytest.raises(WarehouseError, match=r"More than 2 aggregates of pod1 \(\d+ are suspect\) have a defect"):
        build(world)
    assert named(world) == before, "nothing is recorded of what was refused"
    cut(world, [version(bad[0], 2)])
    build(world)
    assert named(world).keys() - before.keys() == {order.order_id for order in bad[1:]}
    assert bad[0].order_id in ids(world, "orders")
