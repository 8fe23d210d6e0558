"""An aggregate that moved to another pod: whoever still follows the old pod takes nothing back, and deletes nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.events.order import OrderState, OrderStatus
from contracts.ids import uuid7
from tests.derived_work import FakePod, key_of, order
from tests.integration.derived.conftest import Stores


def next_version(state: OrderState, **changes: object) -> OrderState:
    return msgspec.structs.replace(state, version=state.version + 1, **changes)


def versions(stores: Stores) -> list[tuple[Any, ...]]:
    return stores.execute("select pod, version, status from read_models.account_orders")


@pytest.fixture
def moved(stores: Stores) -> tuple[FakePod, FakePod, OrderState, OrderState]:
    """An order of pod1 that went on in pod2, both in the lake; its second version is on its way from pod1."""
    old, new = FakePod(pod="pod1"), FakePod(pod="pod2", epoch="another")
    first = order(lines=2, reservation_id=str(uuid7()))
    second = next_version(first, order_number="1002")
    third = next_version(second, status=OrderStatus.CANCELLED)
    stores.apply(old.step(old.cut(first)), also_lake=True)
    stores.apply(new.step(new.cut(third)), also_lake=True)
    return old, new, second, third


def test_the_late_consumer_of_the_old_pod_takes_nothing_back(
    stores: Stores, moved: tuple[FakePod, FakePod, OrderState, OrderState]
) -> None:
    old, _, second, third = moved
    before = stores.contents()
    assert versions(stores) == [("pod2", 3, "cancelled")]
    stores.apply(old.step(old.cut(second), since=1), also_lake=True)
    assert stores.contents() == before, "with all lines, too"
    # Its last word may be that the order is in nobody's account.
    nobodys = msgspec.structs.replace(second, customer_id=None)
    stores.apply(old.step(old.cut(nobodys), since=2), also_lake=True)
    assert stores.contents() == before
    for view in stores.views:
        for pod in ("pod1", "pod2"):
            view.rebuild(pod, [key_of(third)])
            assert stores.contents() == before, (view.name, pod)
            view.rebuild_all(pod)
            assert stores.contents() == before, (view.name, pod)


def test_the_newest_version_may_say_that_it_is_in_the_view_no_more(
    stores: Stores, moved: tuple[FakePod, FakePod, OrderState, OrderState]
) -> None:
    _, new, _, third = moved
    stores.apply(new.step(new.cut(next_version(third, customer_id=None)), since=1), also_lake=True)
    assert versions(stores) == []


def test_a_row_that_says_it_is_of_another_pod_which_never_had_it_is_wrong(
    stores: Stores, moved: tuple[FakePod, FakePod, OrderState, OrderState]
) -> None:
    old, new, _, third = moved
    before = stores.contents()
    stores.execute("update read_models.account_orders set pod = 'pod3', version = 9")
    stores.account.rebuild("pod2", [key_of(third)])
    assert stores.contents() == before
    # What it lost comes back from the pod where it is, whatever the old one does first.
    stores.execute("delete from read_models.account_orders")
    stores.account.rebuild("pod1", [key_of(third)])
    stores.account.rebuild("pod2", [key_of(third)])
    assert stores.contents() == before
    assert (old.cut_number, new.cut_number) == (1, 1)


def test_a_row_of_another_pod_stays_while_the_lake_is_behind_there(stores: Stores) -> None:
    old, new = FakePod(pod="pod1"), FakePod(pod="pod2", epoch="another")
    first = order()
    stores.apply(old.step(old.cut(first)), also_lake=True)
    stores.apply(new.step(new.cut(next_version(first))))
    before = stores.contents()
    for view in stores.views:
        view.rebuild("pod1", [key_of(first)])
        view.rebuild_all("pod1")
    assert stores.contents() == before
