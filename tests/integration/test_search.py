"""The search index beside its owners: built from the log, compared at its own position, repaired by key, built anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from contracts.errors import ConflictError
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.read_models import migrate as migrate_read_models
from derived.search.asking import Question, Search
from derived.search.folders import PodFolder, base_folder
from derived.search.projection import build
from derived.search.reindexing import outlook, reindex
from drills.damages import search as damages
from drills.damages.place import Cell
from oltp.commands.execute import execute
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from stack.composition.comparison import build_reconcile_context
from stack.composition.damaging import place_of
from tests.integration.reconcile_world import Shop, carrying, migrate_lake_of, open_shops, propagate

PAIR, COPIES = "lake_search", ("lake", "search")
GOODS = ("Brass lantern", "Tin lantern", "Red umbrella", "Wool blanket", "Oak chair", "Clay jug", "Glass jar")


@dataclass(kw_only=True)
class World:
    """Two pods with a shop each, the lake and the index."""

    settings: Settings
    shops: tuple[Shop, Shop]
    context: ReconcileContext

    def propagate(self) -> None:
        for pod in self.settings.pods:
            propagate(self.settings, pod, COPIES)

    def compare(self, pod: str = "pod1") -> PairResult:
        (result,) = run_pairs(self.context, [PAIR], [pod])
        return result

    def titles(self, shop: int = 0, text: str = "") -> set[str]:
        asked = Question(merchant_id=self.shops[shop].merchant_id, text=text, limit=50)
        hits = Search(base_folder(self.settings)).ask(self.settings.pods[shop].pod, asked).hits
        return {hit.product.title for hit in hits}

    def view(self) -> KeyedProjection:
        return build(self.settings)

    def upsert(self, title: str, *, is_active: bool = True, shop: int = 0, product_id: str = "") -> str:
        pod, merchant_id = self.shops[shop].pod, self.shops[shop].merchant_id
        known = product_id or str(pod.new_uuid())
        variant = VariantInput(variant_id=known, sku=f"SKU {title}", title=title, unit_price_micro=2_000_000)
        command = UpsertProduct(
            merchant_id=merchant_id, product_id=known, title=title, is_active=is_active, variants=[variant]
        )
        execute(pod, command, idempotency_key=f"upsert/{pod.new_uuid()}")
        return known


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    migrate_lake_of(settings)
    migrate_read_models(settings.read_models_dsn)
    with open_shops(settings) as shops:
        real = build_reconcile_context(settings, lag_seconds_max=10)
        made = World(settings=settings, shops=shops, context=carrying(real, settings, COPIES))
        for title in GOODS:
            made.upsert(title)
        made.upsert("Lantern of the other shop", shop=1)
        made.propagate()
        yield made


def cells() -> Iterator[Cell]:
    for of_round in damages.CELLS.values():
        yield from of_round


def test_it_follows_its_owner_and_every_damage_is_found_and_mended(world: World) -> None:
    assert world.titles(text="lanterns") == {"Brass lantern", "Tin lantern"}
    assert world.titles(shop=1, text="lantern") == {"Lantern of the other shop"}
    for pod in world.settings.pods:
        result = world.compare(pod.pod)
        assert (result.verdict, result.reason) == (Verdict.CONSISTENT, "") and result.compared > 0
    for cell in cells():
        damaged = replace_pod(cell)
        place = place_of(world.settings, "pod1")
        done = damaged.do(place)
        result = world.compare()
        assert result.verdict is Verdict.INCONSISTENT, cell.damage
        wanted = set().union(*damaged.named.values())
        assert not wanted or wanted <= {DifferenceClass(name) for name in result.classes}, (cell.damage, result.classes)
        if done.aggregates:
            assert {one.aggregate_key for one in result.sample} == done.aggregates, cell.damage
            world.view().rebuild("pod1", sorted(done.aggregates))
        else:
            world.view().rebuild_all("pod1", is_lake_position_taken=True)
        assert world.compare().verdict is Verdict.CONSISTENT, cell.damage


def replace_pod(cell: Cell) -> Cell:
    return replace(cell, pod=0)


def test_what_is_off_sale_cannot_be_ordered_though_it_is_still_listed(world: World) -> None:
    jug = world.upsert("Blue jug")
    world.propagate()
    world.upsert("Blue jug", is_active=False, product_id=jug)
    shop = world.shops[0]
    order = PlaceOrder(
        merchant_id=shop.merchant_id,
        order_number="late",
        customer_id=None,
        location_id="main",
        lines=[OrderLineInput(sku="SKU Blue jug", quantity=1)],
    )
    assert "Blue jug" in world.titles(text="blue jug")
    with pytest.raises(ConflictError, match="not for sale"):
        execute(shop.pod, order, idempotency_key="late")
    world.propagate()
    assert "Blue jug" not in world.titles(text="blue jug")


def test_a_new_index_is_built_beside_the_old_one_and_is_equal(world: World) -> None:
    before, asking = world.titles(), Search(base_folder(world.settings))
    question = Question(merchant_id=world.shops[0].merchant_id, limit=50)
    old = asking.ask("pod1", question)
    seen = outlook(world.settings, "pod1")
    assert (seen.generation, seen.products) == ("g000001", len(GOODS) + 1) and seen.cut == old.applied_cut > 0
    done = reindex(world.settings, "pod1", lake_opener(world.settings))
    assert (done.generation, done.cut, done.removed) == ("g000002", seen.cut, ())
    assert world.titles() == before and world.compare().verdict is Verdict.CONSISTENT
    again = asking.ask("pod1", replace(question, cut_min=old.applied_cut))
    assert again.total == old.total
    world.upsert("After the switch")
    world.propagate()
    assert "After the switch" in world.titles()
    assert reindex(world.settings, "pod1").removed == ("g000001",)

    # A folder that was lost is built from where the lake is.
    PodFolder(base_folder(world.settings), "pod1").wipe()
    assert reindex(world.settings, "pod1").cut >= done.cut
    assert "After the switch" in world.titles() and world.compare().verdict is Verdict.CONSISTENT


def test_a_reindexing_that_fails_leaves_the_old_index_current(world: World) -> None:
    def no_lake() -> None:
        raise OSError("The disk is full.")

    with pytest.raises(OSError, match="disk is full"):
        reindex(world.settings, "pod1", no_lake)  # type: ignore[arg-type]
    folder = PodFolder(base_folder(world.settings), "pod1")
    assert [path.name for path in folder.generations()] == ["g000001"]
    assert world.compare().verdict is Verdict.CONSISTENT
