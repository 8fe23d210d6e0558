from __future__ import annotations

import random

from traffic.shops import SHOPS
from traffic.staff import StaffSource


def test_every_kind_of_task_comes_before_any_comes_again() -> None:
    source = StaffSource(random.Random(1))
    first, second = ([source.task(f"live/{turn}/{number}") for number in range(10)] for turn in (1, 2))
    names = [sorted({type(item.command).__name__ for task in turn for item in task}) for turn in (first, second)]
    assert len({task[0].command.__class__.__name__ for task in first}) == 9, "configuration comes in two kinds"
    assert set(names[0]) | {"RevokeCustomerEntitlement"} == set(names[1]) | {"RevokeCustomerEntitlement"}
    keys = [item.key for task in (*first, *second) for item in task]
    assert len(keys) == len(set(keys))
    assert {item.command.merchant_id for task in (*first, *second) for item in task} <= {
        shop.merchant_id for shop in SHOPS
    }


def test_the_same_source_draws_the_same_tasks() -> None:
    one, other = StaffSource(random.Random(7)), StaffSource(random.Random(7))
    assert [one.task("a") for _ in range(12)] == [other.task("a") for _ in range(12)]
