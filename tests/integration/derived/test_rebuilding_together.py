"""Several views rebuilt at the same time: each as of its own position, the lake read once, a failure stops nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.errors import PropagationError
from contracts.events.order import OrderState, OrderStatus
from derived import lake_reads
from derived.keyed.rebuilding import Rebuilt
from derived.keyed.together import rebuild_together
from derived.lake_connection import open_lake
from tests.derived_work import FakePod, changed, key_of, order, payment, reservation
from tests.integration.derived.conftest import TABLES, Stores

POD = "pod1"
FAILS = """
    create function read_models.fail() returns trigger language plpgsql as
    'begin raise exception using errcode = ''53100'', message = ''the disk is full''; end';
    create trigger fails before {event} on read_models.account_orders
    for each {each} execute function read_models.fail()"""


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The readings of whole views: their named arguments."""
    found: list[dict[str, Any]] = []
    read = lake_reads.read_events

    def counted(*given: Any, **named: Any) -> Any:
        found.append(named)
        return read(*given, **named)

    monkeypatch.setattr(lake_reads, "read_events", counted)
    return found


@pytest.fixture
def shop(stores: Stores) -> Iterator[list[OrderState]]:
    """Orders in every view; in the lake and in one view some of them have changed since, and one is new."""
    pod = FakePod()
    orders = [order(lines=2, order_number=str(number)) for number in range(6)]
    states = [*orders, *map(payment, orders), *map(reservation, orders)]
    stores.apply(pod.step(pod.cut(*states)), also_lake=True)
    newer = [changed(one, status=OrderStatus.CANCELLED) for one in orders[::2]]
    later = pod.step(pod.cut(*newer, order(order_number="new")), since=1)
    stores.lake.apply(later)
    stores.fulfillment.apply(later)
    yield orders


def lose(stores: Stores) -> None:
    stores.execute(f"truncate {', '.join(f'read_models.{table}' for table in TABLES)}")


def together(stores: Stores, **named: Any) -> dict[str, Rebuilt | Exception]:
    done = rebuild_together(stores.views, POD, lambda: open_lake(stores.settings, read_only=True), **named)
    return dict(done)


def test_each_view_is_rebuilt_as_of_its_own_position(
    stores: Stores, shop: list[OrderState], readings: list[dict[str, Any]]
) -> None:
    before = stores.contents()
    lose(stores)
    done = together(stores)
    assert stores.contents() == before
    assert {name: one.aggregates for name, one in done.items() if isinstance(one, Rebuilt)} == {
        "account_view": 12,
        "fulfillment_view": 19,  # the payments of the orders are in it, too
        "merchant_sales": 12,
    }
    common, *others = sorted(readings, key=lambda named: bool(named["after"]))
    assert not common["after"]
    assert len(others) == 1 and others[0]["after"], "the view that is ahead reads what the others do not need"
    assert together(stores, taking_lake_position=set()).keys() == done.keys()
    assert stores.contents() == before


def test_views_that_take_the_lakes_position_all_take_the_same_and_read_once(
    stores: Stores, shop: list[OrderState], readings: list[dict[str, Any]]
) -> None:
    lose(stores)
    stores.execute("truncate read_models.positions")
    done = together(stores, taking_lake_position={view.name for view in stores.views})
    assert [named["after"] for named in readings] == [{}]
    positions = [one.position for one in done.values() if isinstance(one, Rebuilt)]
    assert len(positions) == 3 and positions[0] == positions[1] == positions[2]
    assert positions[0] == stores.account.state(POD).positions
    shown = dict(stores.execute("select order_id, status from read_models.account_orders"))
    assert len(shown) == 7 and {shown[one.order_id] for one in shop[::2]} == {"cancelled"}


@pytest.mark.parametrize(("event", "each"), [("delete", "statement"), ("insert", "row")])
def test_a_view_that_fails_before_or_while_it_reads_changes_nothing_and_stops_nobody(
    stores: Stores, shop: list[OrderState], event: str, each: str
) -> None:
    before = stores.contents()
    stores.execute("update read_models.account_orders set total_minor = 1")
    stores.execute("delete from read_models.fulfillment_orders")
    stores.execute("delete from read_models.sales_orders")
    wrong = stores.contents()["account_orders"]
    stores.execute(FAILS.format(event=event, each=each))
    done = together(stores)
    assert isinstance(done["account_view"], PropagationError)
    assert "the disk is full" in str(done["account_view"])
    assert [type(done[name]) for name in ("fulfillment_view", "merchant_sales")] == [Rebuilt, Rebuilt]
    assert stores.contents() == {**before, "account_orders": wrong}
    stores.execute("drop trigger fails on read_models.account_orders")
    assert isinstance(together(stores)["account_view"], Rebuilt)
    assert stores.contents() == before


def test_an_aggregate_whose_newest_event_can_be_read_again_is_not_parked(stores: Stores) -> None:
    pod, good = FakePod(), order()
    pod.cut_number = 1
    stores.lake.apply(pod.step(pod.entries([pod.event(good), pod.event(changed(good), payload="{}")])))
    stores.apply(pod.step([]))
    later = pod.step(pod.cut(changed(changed(good), status=OrderStatus.CANCELLED)), since=1)
    stores.lake.apply(later)
    stores.fulfillment.apply(later)
    together(stores)
    assert stores.account.state(POD).parked_keys == {key_of(good)}, "at its position the newest event is unreadable"
    assert stores.fulfillment.state(POD).parked_keys == frozenset()
    assert stores.execute("select version, status from read_models.fulfillment_orders") == [(3, "cancelled")]
