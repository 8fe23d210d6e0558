"""An aggregate with a defect is left out by name, with its order, and stops nobody else; later it is taken in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import msgspec
import pytest

from contracts.events.order import OrderEvent, OrderState
from contracts.events.payment import PaymentCapture, PaymentEvent, PaymentState, PaymentStatus
from contracts.events.product import ProductState
from contracts.events.refund import RefundLine, RefundState, RefundStatus
from contracts.events.stock import ReservationState, StockMovementKind, StockMovementState
from contracts.money import micro_per_minor
from derived.warehouse import build_warehouse
from tests import derived_work
from tests.commerce import Change, Commerce
from tests.conftest import Cluster
from tests.integration.warehouse.spoiled import Event, Spoil, build, cut, ids, named, put_back, traded
from tests.integration.warehouse.world import World

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def world(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    yield from traded(postgres, tmp_path_factory.mktemp("left_out"), pod1=40, pod2=20)


def lost(aggregate_id: str, version: int) -> Spoil:
    return lambda event: (
        None if (event["aggregate_id"], event["aggregate_version"]) == (aggregate_id, version) else event
    )


def paid(commerce: Commerce) -> tuple[list[Change], OrderState, PaymentState]:
    """Place an order that is paid at once; return the changes, the order and its payment."""
    for _ in range(20):
        changes = commerce.place()
        order = next(state for state, *_ in changes if isinstance(state, OrderState))
        payment = commerce.payments[order.order_id]
        if payment.authorized_minor > 0:
            break
    else:
        raise AssertionError("twenty orders of this seed cost nothing")
    capture = PaymentCapture(
        payment_capture_id=commerce.new_id(),
        amount_minor=payment.authorized_minor,
        provider_reference=commerce.new_id(),
        captured_at=commerce.now,
    )
    payment = msgspec.structs.replace(
        payment,
        version=2,
        status=PaymentStatus.CAPTURED,
        captured_minor=payment.authorized_minor,
        captures=[capture],
    )
    commerce.payments[order.order_id] = payment
    return [*changes, (payment, PaymentEvent.PAYMENT_CAPTURED, commerce.now)], order, payment


def refunded(commerce: Commerce, payment: PaymentState) -> tuple[list[Change], RefundState, PaymentState]:
    """Give one minor unit of a payment back."""
    line = RefundLine(
        refund_line_id=commerce.new_id(),
        order_line_id=commerce.new_id(),
        quantity=1,
        amount_minor=1,
        tax_minor=0,
        jurisdiction="GB",
        tax_category="standard",
        is_restocked=False,
    )
    asked = derived_work.refund(payment, amount_minor=1, tax_minor=0, lines=[line], requested_at=commerce.now)
    done = msgspec.structs.replace(asked, version=2, status=RefundStatus.COMPLETED, completed_at=commerce.now)
    payment = msgspec.structs.replace(payment, version=payment.version + 1, refunded_minor=payment.refunded_minor + 1)
    commerce.payments[payment.order_id] = payment
    return (
        [
            (asked, "refund_requested", commerce.now),
            (done, "refund_completed", commerce.now),
            (payment, PaymentEvent.PAYMENT_REFUNDED, commerce.now),
        ],
        done,
        payment,
    )


@pytest.mark.long
def test_a_lost_version_leaves_its_order_out_until_it_is_stated_again(world: World) -> None:
    commerce = world.commerce["pod1"]
    changes, order, payment = paid(commerce)
    cut(world, changes, lost(payment.payment_id, 1))
    from_cut = world.pods["pod1"].cut_number
    (one,) = build(world).left_out
    assert (one.aggregate_id, one.defect, one.version, one.scope) == (
        payment.payment_id,
        "GAP",
        2,
        ("order", order.order_id),
    )
    assert one.amounts == {
        "placed_minor": order.total_minor,
        "cancelled_minor": 0,
        "captured_minor": payment.captured_minor,
        "refunded_minor": 0,
    }
    assert one.aggregate_key in one.sentence and "the version before it is missing" in one.sentence
    assert order.order_id not in ids(world, "orders") and payment.payment_id not in ids(world, "payments")
    others = {state.order_id for state, *_ in changes if isinstance(state, OrderState)} - {order.order_id}
    assert others <= ids(world, "orders"), "the others of the same merchants are all there"

    # Trade goes on, also of the order; nothing of it comes in, everything else does.
    more, _, payment = refunded(commerce, payment)
    cut(world, more)
    world.trade("pod1", 20)
    world.trade("pod2", 5)
    shown = build(world).cuts
    assert named(world)[payment.payment_id].amounts["refunded_minor"] == 1
    before = world.marts(shown)
    assert order.order_id not in ids(world, "orders")

    # A person has it stated again: order, payment and refund are there, at this cut; earlier ones are what they were.
    newest = commerce.payments[order.order_id]
    again = msgspec.structs.replace(newest, version=newest.version + 1)
    commerce.payments[order.order_id] = again
    cut(world, [(again, PaymentEvent.PAYMENT_RESTATED, commerce.now)])
    assert build(world).left_out == [] and named(world) == {}
    standing = next(one for one in commerce.orders if one.order_id == order.order_id)
    assert (standing.order_id, standing.version, standing.total_minor) in world.rows(
        "select order_id, version, total_minor from lake.marts.orders"
    )
    booked = world.rows(
        "select sum(amount_micro), min(cut) from lake.marts.journal "
        f"where account = 'cash' and order_id = '{order.order_id}'"
    )
    money = (again.captured_minor - again.refunded_minor) * micro_per_minor(again.currency)
    assert booked == [(money, world.pods["pod1"].cut_number)] and from_cut < world.pods["pod1"].cut_number
    assert world.marts(shown) == before, "a report that was made stays what it was"
    stored = world.stored()
    build(world, full_refresh=True)
    assert world.stored() == stored, "from nothing it comes to the same"
    assert world.marts(shown) == before


@pytest.mark.long
def test_an_order_whose_only_version_was_lost_is_stated_again_and_stops_nobody(world: World) -> None:
    commerce = world.commerce["pod1"]
    changes = commerce.place()
    order = next(state for state, *_ in changes if isinstance(state, OrderState))
    cut(world, changes, lost(order.order_id, 1))
    placed = placed_minor(world, order)
    again = msgspec.structs.replace(order, version=2)
    cut(world, [(again, OrderEvent.ORDER_RESTATED, commerce.now)])
    assert build(world).left_out == []
    assert placed_minor(world, order) == placed + order.total_minor - order.cancelled_minor

    # The gap below is forgiven, a new one above leaves it out again.
    cut(world, [(msgspec.structs.replace(order, version=4), OrderEvent.ORDER_FULFILLED, commerce.now)])
    (one,) = build(world).left_out
    assert (one.aggregate_id, one.defect, one.version) == (order.order_id, "GAP", 4)
    cut(world, [(msgspec.structs.replace(order, version=5), OrderEvent.ORDER_RESTATED, commerce.now)])
    assert build(world).left_out == []


def placed_minor(world: World, order: OrderState) -> int:
    """Return what the order's merchant placed on all days, by the daily report."""
    ((found,),) = world.rows(
        "select coalesce(sum(placed_minor), 0)::bigint from lake.marts.daily_sales "
        f"where merchant_id = '{order.merchant_id}' and currency = '{order.currency}'"
    )
    assert isinstance(found, int)
    return found


@pytest.mark.in_turn("left out", seconds=58)
def test_every_kind_of_defect_is_named_and_stops_only_itself(world: World) -> None:
    spoilt, changes, spoil = defects(world.commerce["pod1"])
    events = cut(world, changes, spoil)
    pod2, more, spoil2 = defects_of_pod2(world.commerce["pod2"])
    cut(world, more, spoil2, pod="pod2")
    build(world)
    assert {state_id: one.defect for state_id, one in named(world).items()} == spoilt | pod2
    bad = {str(event["aggregate_id"]) for event in events} & set(spoilt)
    assert not bad & (ids(world, "orders") | ids(world, "payments") | ids(world, "refunds"))
    good = {state.order_id for state, *_ in more if isinstance(state, OrderState)}
    assert good <= ids(world, "orders"), "pod2's orders are all there"
    world.trade("pod1", 10)
    build(world)
    stored = world.stored()
    build(world, full_refresh=True)
    assert world.stored() == stored, "from nothing it comes to the same"

    # A later good event of what was wrong in itself brings it in; what nobody can know anything of needs a person.
    left = {state_id: one for state_id, one in named(world).items() if one.aggregate_type == "order"}
    # Its payment was never written: had the trade gone on to capture it, a version of that would be missing, too.
    payments = world.commerce["pod1"].payments
    money = next(one for one in left if left[one].defect == "MONEY" and payments[one].version == 1)
    unreadable = next(one for one in left if left[one].defect == "UNREADABLE")
    healed = [next(o for o in world.commerce["pod1"].orders if o.order_id == one) for one in (money, unreadable)]
    healing: list[Change] = [
        (msgspec.structs.replace(one, version=one.version + 1), OrderEvent.ORDER_FULFILLED, world.commerce["pod1"].now)
        for one in healed
    ]
    cut(world, healing)
    build(world)
    found = named(world)
    assert money not in found and unreadable in found and set(pod2) <= set(found)
    assert money in ids(world, "orders") and unreadable not in ids(world, "orders")


@pytest.mark.in_turn("left out", seconds=28)
def test_an_event_that_comes_back_to_the_lake_ends_it_without_changing_reports(world: World) -> None:
    commerce = world.commerce["pod1"]
    changes, order, payment = paid(commerce)
    whole = cut(world, changes, lost(payment.payment_id, 1))
    at = world.pods["pod1"].cut_number
    shown = build(world).cuts
    before = world.marts(shown)
    assert payment.payment_id in named(world)
    missing = next(one for one in whole if (one["aggregate_id"], one["aggregate_version"]) == (payment.payment_id, 1))
    world.trade("pod1", 5)
    put_back(world, missing)
    build_warehouse(world.settings, since={"pod1": at - 1})
    assert payment.payment_id not in named(world) and order.order_id in ids(world, "orders")
    assert world.marts(shown) == before, "a report that was made stays what it was"


def defects(commerce: Commerce) -> tuple[dict[str, str], list[Change], Spoil]:
    """Return what is wrong with which aggregate of one pod, the changes, and what spoils the events on their way."""
    expected: dict[str, str] = {}
    changes: list[Change] = []
    payloads: dict[str, Callable[[str], str]] = {}
    gone: set[tuple[str, int]] = set()

    def order(defect: str, **values: object) -> OrderState:
        # What costs nothing, or one unit, would not be spoilt by the values below.
        placed = (one for _ in range(50) for one in commerce.place())
        state, event_type, at = next(one for one in placed if isinstance(one[0], OrderState) and one[0].total_minor > 1)
        assert isinstance(state, OrderState)
        expected[state.order_id] = defect
        changes.append((msgspec.structs.replace(state, **values), event_type, at))
        return state

    order("MONEY", total_minor=1)
    order("UNKNOWN_VALUE", currency="XXX")
    order("UNKNOWN_VALUE", status="eaten")
    order("MONEY", lines=[])
    broken = order("MONEY")
    line = msgspec.structs.replace(broken.lines[0], tax_minor=broken.lines[0].tax_minor + 1)
    changes[-1] = (msgspec.structs.replace(broken, lines=[line, *broken.lines[1:]]), *changes[-1][1:])
    order("TOO_LARGE", rounding_micro=2**62)
    large = order("TOO_LARGE")
    line = msgspec.structs.replace(large.lines[0], rounding_micro=2**62 + 1)
    changes[-1] = (msgspec.structs.replace(large, lines=[line, *large.lines[1:]]), *changes[-1][1:])
    del expected[next(one for one in expected if expected[one] == "TOO_LARGE")]
    expected[changes[-2][0].aggregate_id] = "MONEY"
    for change in (
        lambda text: '{"state": {"order_id": "x"}}',
        lambda text: "nothing of sense",
        lambda text: text.replace('"placed_at":"', '"placed_at":"infinity", "was":"'),
        lambda text: text.replace('"withdrawn_quantity":0', '"withdrawn_quantity":"many"'),
        lambda text: text.replace('"tax_minor":', '"tax_minor":null,"was":', 1),
    ):
        payloads[order("UNREADABLE").order_id] = change
    twice = order("TWICE")
    changes.append((twice, OrderEvent.ORDER_RESTATED, commerce.now))
    other = order("OTHER_AGGREGATE")
    payloads[other.order_id] = lambda text: text.replace(other.merchant_id, "another")

    for spoil_refund in ("lost", "garbage"):
        paying, _, payment = paid(commerce)
        giving, refund, payment = refunded(commerce, payment)
        changes.extend([*paying, *giving])
        if spoil_refund == "lost":
            gone.add((refund.refund_id, 2))
            expected[payment.payment_id] = "REFUNDS"
        else:
            payloads[refund.refund_id] = lambda text: "nothing of sense"
            expected[payment.payment_id], expected[refund.refund_id] = "REFUNDS", "UNREADABLE"
    paying, _, payment = paid(commerce)
    other_currency = "EUR" if payment.currency == "GBP" else "GBP"
    paying[-1] = (msgspec.structs.replace(payment, currency=other_currency), *paying[-1][1:])
    expected[payment.payment_id] = "OTHER_CURRENCY"
    changes.extend(paying)
    adjustment, event_type, at = commerce.adjust()[0]
    changes.append((msgspec.structs.replace(adjustment, tax_minor=3, tax_category=None), event_type, at))
    expected[adjustment.aggregate_id] = "MONEY"

    def spoil(event: Event) -> Event | None:
        key = str(event["aggregate_id"])
        if (key, event["aggregate_version"]) in gone:
            return None
        change = payloads.get(key)
        return event if change is None else event | {"payload": change(str(event["payload"]))}

    return expected, changes, spoil


def defects_of_pod2(commerce: Commerce) -> tuple[dict[str, str], list[Change], Spoil]:
    """The same for what has no money: a reservation, a stock movement, a product."""
    changes = commerce.place()
    held = next(state for state, *_ in changes if isinstance(state, ReservationState))
    product = next(state for state, *_ in commerce.opening() if isinstance(state, ProductState))
    moved = StockMovementState(
        merchant_id=held.merchant_id,
        version=1,
        stock_movement_id=commerce.new_id(),
        variant_id="variant-1",
        location_id="main",
        kind=StockMovementKind.RECEIVED,
        quantity=0,
        reason="test",
        order_id=None,
        moved_at=commerce.now,
    )
    changes += [(moved, "stock_moved", commerce.now), (product, "product_upserted", commerce.now)]
    changes.append((msgspec.structs.replace(product, version=3), "product_upserted", commerce.now))

    def spoil(event: Event) -> Event:
        if event["aggregate_id"] == held.reservation_id:
            payload = json.loads(str(event["payload"]))
            payload["state"]["lines"] = "none"
            return event | {"payload": json.dumps(payload)}
        return event

    expected = {held.reservation_id: "UNREADABLE", moved.stock_movement_id: "MONEY", product.product_id: "GAP"}
    return expected, changes, spoil
