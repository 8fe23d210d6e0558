"""A version that no store has any more: builds name it and are not complete, until its aggregate is stated again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from contracts.events.order import OrderEvent, OrderState
from contracts.events.payment import PaymentCapture, PaymentEvent, PaymentState, PaymentStatus
from contracts.money import micro_per_minor
from derived.warehouse import BuildResult, build_warehouse
from tests.commerce import Change, Commerce, events_of
from tests.conftest import SEED, Cluster
from tests.integration.warehouse.world import World

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("warehouse")]

TEST = "versions_are_contiguous_int_payments_history_payment_id"


@pytest.fixture
def world(postgres: Cluster, tmp_path: Path) -> Iterator[World]:
    made = World(postgres, tmp_path, SEED)
    yield made
    made.lake.close()


def cut_without(world: World, changes: list[Change], aggregate_id: str, version: int) -> None:
    """Take a cut of pod1 that lacks the event of one version of one aggregate."""
    fake = world.pods["pod1"]
    since, fake.cut_number = fake.cut_number, fake.cut_number + 1
    events = [
        one
        for one in events_of(fake, changes)
        if (one["aggregate_id"], one["aggregate_version"]) != (aggregate_id, version)
    ]
    world.lake.apply(fake.step(fake.entries(events), since=since))


def paid(commerce: Commerce) -> tuple[list[Change], PaymentState]:
    """Place an order that is paid at once; return the changes, and its payment."""
    changes = commerce.place()
    order = next(state for state, *_ in changes if isinstance(state, OrderState))
    payment = commerce.payments[order.order_id]
    assert payment.authorized_minor > 0, "an order of this seed that costs nothing"
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
    return [*changes, (payment, PaymentEvent.PAYMENT_CAPTURED, commerce.now)], payment


def restate(world: World, payment: PaymentState) -> tuple[list[Change], PaymentState]:
    """Return the event that states a payment's whole state again, and that state."""
    commerce = world.commerce["pod1"]
    again = msgspec.structs.replace(payment, version=payment.version + 1)
    commerce.payments[payment.order_id] = again
    return [(again, PaymentEvent.PAYMENT_RESTATED, commerce.now)], again


def refused(world: World) -> str:
    """Build, and return the keys that the one test that fails names."""
    result = build_warehouse(world.settings)
    assert not result.is_complete and [node.name for node in result.test_failures] == [TEST]
    return result.test_failures[0].keys


def complete(world: World, *, full_refresh: bool = False) -> BuildResult:
    result = build_warehouse(world.settings, full_refresh=full_refresh)
    assert result.is_complete, [node.sentence for node in result.test_failures]
    return result


def test_a_lost_version_stops_builds_by_name_until_its_aggregate_is_stated_again(world: World) -> None:
    world.trade("pod1", 20)
    shown = world.marts(complete(world).cuts)
    cuts = {pod: fake.cut_number for pod, fake in world.pods.items()}
    changes, payment = paid(world.commerce["pod1"])
    cut_without(world, changes, payment.payment_id, 1)
    keys = refused(world)
    assert f"payment_id={payment.payment_id}, version=2, expected_version=1" in keys and ";" not in keys
    # Time does not heal it.
    world.trade("pod2", 5)
    assert payment.payment_id in refused(world)

    stating, again = restate(world, world.commerce["pod1"].payments[payment.order_id])
    world.cut("pod1", stating)
    complete(world)
    assert (again.version, again.captured_minor, again.refunded_minor) in world.rows(
        "select version, captured_minor, refunded_minor from lake.marts.payments "
        f"where payment_id = '{payment.payment_id}'"
    )
    booked = world.rows(
        "select sum(amount_micro) from lake.marts.journal "
        f"where account = 'cash' and aggregate_id = '{payment.payment_id}'"
    )
    assert booked == [(again.captured_minor * micro_per_minor(again.currency),)]
    assert world.marts(cuts) == shown, "a report that was made stays what it was"
    stored = world.stored()
    complete(world, full_refresh=True)
    assert world.stored() == stored, "from nothing it comes to the same"

    # The gap below is forgiven, a new one above is not.
    stating, later = restate(world, again)
    world.cut("pod1", stating)
    complete(world)
    jumped = msgspec.structs.replace(later, version=later.version + 2)
    world.cut("pod1", [(jumped, PaymentEvent.PAYMENT_CAPTURED, world.commerce["pod1"].now)])
    assert f"version={jumped.version}, expected_version={jumped.version - 1}" in refused(world)


def test_an_order_whose_only_version_was_lost_is_stated_again_and_stops_nobody(world: World) -> None:
    commerce = world.commerce["pod1"]
    changes = commerce.place()
    order = next(state for state, *_ in changes if isinstance(state, OrderState))
    cut_without(world, changes, order.order_id, 1)
    complete(world)
    placed = placed_minor(world, order)
    again = msgspec.structs.replace(order, version=2)
    world.cut("pod1", [(again, OrderEvent.ORDER_RESTATED, commerce.now)])
    complete(world)
    assert placed_minor(world, order) == placed + order.total_minor - order.cancelled_minor


def placed_minor(world: World, order: OrderState) -> int:
    """Return what the order's merchant placed on all days, by the daily report."""
    ((found,),) = world.rows(
        "select coalesce(sum(placed_minor), 0)::bigint from lake.marts.daily_sales "
        f"where merchant_id = '{order.merchant_id}' and currency = '{order.currency}'"
    )
    assert isinstance(found, int)
    return found
