"""Commands that slip into the old pod while their merchant moves: no build fails, and each order is named."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from contracts.events.order import OrderState
from tests.commerce import Change
from tests.conftest import SEED, Cluster
from tests.integration.warehouse import sweep
from tests.integration.warehouse.spoiled import build, cut, named
from tests.integration.warehouse.world import World

pytestmark = pytest.mark.timeout(900)

ORDERS = ("late", "twice late", "early", "together")
"""When the slipped event is built: after the new pod's (one, or two of them), before it, in the same build."""


@pytest.fixture
def world(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(postgres, tmp_path_factory.mktemp("slipped"), SEED)
    yield made
    made.lake.close()


def at(first: OrderState, version: int, number: str, event_type: str = "changed") -> Change:
    """Return a version of an order that only its number tells from another one."""
    return msgspec.structs.replace(first, version=version, order_number=number), event_type, first.placed_at


def numbers(world: World, firsts: dict[str, OrderState]) -> dict[str, object]:
    shown = {row[0]: row[1] for row in world.rows("select order_id, order_number from lake.marts.orders")}
    return {name: shown.get(first.order_id) for name, first in firsts.items()}


def defects(world: World, firsts: dict[str, OrderState]) -> dict[str, tuple[str, str]]:
    found = named(world)
    return {
        name: (found[first.order_id].pod, found[first.order_id].defect)
        for name, first in firsts.items()
        if first.order_id in found
    }


@pytest.mark.in_turn("moved", seconds=97)
def test_of_two_events_of_one_version_finance_has_that_of_the_later_residence(world: World) -> None:
    firsts = {name: sweep.order(world.commerce["pod1"])[0] for name in ORDERS}
    here = {name: at(first, 2, "here") for name, first in firsts.items()}
    there = {name: at(first, 2, "there") for name, first in firsts.items()}
    cut(world, [at(first, 1, "first", "order_placed") for first in firsts.values()])
    build(world)

    world.pods["pod2"].directory_epoch = 2
    cut(world, [there["late"], there["twice late"]], pod="pod2")
    cut(world, [here["early"]])
    build(world)
    assert numbers(world, firsts) == {
        "late": "there", "twice late": "there", "early": "here", "together": "first",
    }  # fmt: skip
    assert defects(world, firsts) == {}

    cut(world, [here["late"], here["together"], here["twice late"], at(firsts["twice late"], 3, "here")])
    cut(world, [there["early"], there["together"]], pod="pod2")
    build(world)
    assert numbers(world, firsts) == {
        "late": "there", "twice late": "there", "early": "here", "together": "there",
    }, "what reports had stays until somebody has it stated again"  # fmt: skip
    assert defects(world, firsts) == {
        "late": ("pod1", "SLIPPED"), "twice late": ("pod1", "SLIPPED"), "early": ("pod2", "SLIPPED"),
        "together": ("pod1", "SLIPPED"),
    }  # fmt: skip

    cut(world, [at(first, 3, "stated again", "order_restated") for first in firsts.values()], pod="pod2")
    build(world)
    assert set(numbers(world, firsts).values()) == {"stated again"}
    assert defects(world, firsts) == {}
    world.trade("pod1", 5)
    build(world)
    assert defects(world, firsts) == {}
    build(world, full_refresh=True)
    assert set(numbers(world, firsts).values()) == {"stated again"}
    assert defects(world, firsts) == {}
