"""A merchant is not its pod: versions of an aggregate come from two pods, in any order, and everything counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from derived.lake_connection import open_lake
from derived.reports import MARTS
from derived.warehouse import build_warehouse
from tests.commerce import Change, Commerce
from tests.conftest import SEED, Cluster
from tests.integration.warehouse.world import World

pytestmark = pytest.mark.timeout(900)

MOVED = "united-kingdom"
OF_THE_WAY = ("pod", "cut", "event_id", "recorded_at", "last_recorded_at", "changed_at", "last_event_at")
"""Columns that say how a row came, not what it says."""


def trade(commerce: Commerce, transactions: int) -> list[Change]:
    return [change for transaction in commerce.transactions(transactions) for change in transaction]


@pytest.fixture(params=[pytest.param("in order", marks=pytest.mark.long), "the new pod first"])
def worlds(request: pytest.FixtureRequest, postgres: Cluster, tmp_path: Path) -> Iterator[tuple[World, World]]:
    """The same trade twice: with a merchant that moves from pod1 to pod2, and with one that stays."""
    made = []
    for name in ("moved", "stayed"):
        folder = tmp_path / name
        folder.mkdir()
        made.append(World(postgres, folder, SEED))
    moved, stayed = made
    for world in made:
        commerce = world.commerce["pod1"]
        world.cut("pod1", trade(commerce, 60))
        if world is moved:
            assert build_warehouse(world.settings).is_complete
        late, new = trade(commerce, 40), trade(commerce, 70)
        if world is stayed:
            world.cut("pod1", late)
            world.cut("pod1", new)
            continue
        there = [change for change in new if change[0].merchant_id == MOVED]
        here = [change for change in new if change[0].merchant_id != MOVED]
        if request.param == "in order":
            world.cut("pod1", late)
            world.cut("pod2", there)
        else:
            # The old pod's events come later than those of the new one: what follows them waits.
            world.cut("pod2", there)
            assert build_warehouse(world.settings).is_complete
            world.cut("pod1", late)
            world.trade("pod2", 0)
        world.cut("pod1", here)
    yield moved, stayed
    for world in made:
        world.lake.close()


def business(world: World, mart: str) -> list[str]:
    """Return what a mart says of the trade of pod1's merchants, whatever way it came."""
    with open_lake(world.settings, read_only=True) as lake:
        rows: list[dict[str, Any]] = lake.execute(f"from lake.marts.{mart}").to_arrow_table().to_pylist()
    merchants = {merchant for merchant, *_ in world.commerce["pod1"].merchants}
    return sorted(
        str({name: value for name, value in row.items() if name not in OF_THE_WAY})
        for row in rows
        if row["merchant_id"] in merchants
    )


@pytest.mark.in_turn("moved", seconds=90)
def test_a_merchant_that_moves_between_pods_counts_once(worlds: tuple[World, World]) -> None:
    moved, stayed = worlds
    for world in worlds:
        built = build_warehouse(world.settings)
        assert built.is_complete and not built.left_out, [one.sentence for one in built.left_out]
    pods = moved.rows(
        f"select count(*) from (select order_id from lake.intermediate.int_orders_history "
        f"where merchant_id = '{MOVED}' group by order_id having count(distinct pod) > 1)"
    )
    assert pods[0][0] > 0, "no order has versions in both"  # type: ignore[operator]
    differing = [mart for mart in MARTS if business(moved, mart) != business(stayed, mart)]
    assert differing == []
    for mart in ("journal", "orders", "payments", "daily_sales"):
        assert business(moved, mart), mart

    # Reports as of earlier cuts are what they were, and a build from nothing gives the same.
    cuts = {"pod1": 2, "pod2": 1}
    before, stored = moved.marts(cuts), moved.stored()
    again = build_warehouse(moved.settings, full_refresh=True)
    assert again.is_complete
    assert moved.marts(cuts) == before
    assert [len(rows) for rows in moved.stored().values()] == [len(rows) for rows in stored.values()]
