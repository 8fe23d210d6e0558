"""An aggregate that moved to another pod: whoever still follows the old pod takes nothing back, and deletes nothing."""

from __future__ import annotations

from itertools import combinations
from operator import itemgetter
from typing import Any

import msgspec
import pytest

from contracts.events.order import OrderState, OrderStatus
from contracts.ids import uuid7
from tests.derived_work import FakePod, changed, key_of, order
from tests.integration.derived.conftest import Stores


def versions(stores: Stores) -> list[tuple[Any, ...]]:
    return stores.execute("select pod, version, status from read_models.account_orders")


@pytest.fixture
def moved(stores: Stores) -> tuple[FakePod, FakePod, OrderState, OrderState]:
    """An order of pod1 that went on in pod2, both in the lake; its second version is on its way from pod1."""
    old, new = FakePod(pod="pod1"), FakePod(pod="pod2", epoch="another")
    first = order(lines=2, reservation_id=str(uuid7()))
    second = changed(first, order_number="1002")
    third = changed(second, status=OrderStatus.CANCELLED)
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


OLD = ("old 1", "old 2", "old 3")
NEW = ("new 2", "new 3")
ARRIVALS = [
    [
        event
        for event, _ in sorted(
            zip((*OLD, *NEW), (*places, *(set(range(5)) - set(places))), strict=True), key=itemgetter(1)
        )
    ]
    for places in combinations(range(5), len(OLD))
]
"""Every order in which a view may get them: each pod's events come in their own order."""


@pytest.mark.in_turn
@pytest.mark.parametrize("arrival", ARRIVALS, ids=", ".join)
def test_of_one_version_from_two_pods_that_of_the_later_residence_stands(stores: Stores, arrival: list[str]) -> None:
    """Two commands slipped into the old pod while the merchant moved, so versions 2 and 3 are there twice."""
    pods = {"old": FakePod(pod="pod1"), "new": FakePod(pod="pod2", epoch="another", directory_epoch=2)}
    first = order(lines=2, reservation_id=str(uuid7()))
    there = changed(first, order_number="there 2")
    states = {
        "old 1": first,
        "old 2": changed(first, order_number="here 2"),
        "old 3": msgspec.structs.replace(first, version=3, order_number="here 3"),
        "new 2": there,
        "new 3": changed(there, order_number="there 3"),
    }
    for number, name in enumerate(arrival):
        pod = pods[name.split()[0]]
        stores.apply(pod.step(pod.cut(states[name]), since=pod.cut_number - 1), also_lake=True)
        newest = max(arrival[: number + 1])
        newest = max((one for one in arrival[: number + 1] if one.startswith("new")), default=newest)
        assert stores.execute("select order_number, directory_epoch from read_models.account_orders") == [
            (states[newest].order_number, 2 if newest.startswith("new") else 1)
        ]
    before = stores.contents()
    for view in stores.views:
        for name in ("pod1", "pod2", "pod1"):
            view.rebuild(name, [key_of(first)])
            assert stores.contents() == before, (view.name, name)
            view.rebuild_all(name)
            assert stores.contents() == before, (view.name, name)


def test_who_came_back_is_newer_than_where_it_was(stores: Stores) -> None:
    """The row's pod is the first one again; what the other pod still has to say is older, whatever its version."""
    here, there = FakePod(pod="pod1"), FakePod(pod="pod2", epoch="another", directory_epoch=2)
    first = order()
    stores.apply(here.step(here.cut(first)), also_lake=True)
    here.directory_epoch = 3
    back = msgspec.structs.replace(first, version=3, order_number="back")
    stores.apply(here.step(here.cut(back), since=1), also_lake=True)
    before = stores.contents()
    for number, version in enumerate((2, 3, 4)):
        late = msgspec.structs.replace(first, version=version, order_number="late")
        stores.apply(there.step(there.cut(late), since=number), also_lake=True)
        assert stores.contents() == before
    for view in stores.views:
        for pod in ("pod2", "pod1"):
            view.rebuild_all(pod)
            assert stores.contents() == before


def test_the_newest_version_may_say_that_it_is_in_the_view_no_more(
    stores: Stores, moved: tuple[FakePod, FakePod, OrderState, OrderState]
) -> None:
    _, new, _, third = moved
    stores.apply(new.step(new.cut(changed(third, customer_id=None)), since=1), also_lake=True)
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
    stores.apply(new.step(new.cut(changed(first))))
    before = stores.contents()
    for view in stores.views:
        view.rebuild("pod1", [key_of(first)])
        view.rebuild_all("pod1")
    assert stores.contents() == before
