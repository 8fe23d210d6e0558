"""The search index beside its owners: built from the log, compared at its own position, repaired by key, built anew."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tantivy import SchemaBuilder

from contracts.errors import ConflictError, PropagationError
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from derived.keyed.projection import KeyedProjection, lake_opener
from derived.read_models import migrate as migrate_read_models
from derived.search import schema
from derived.search.asking import Question, Search
from derived.search.folders import PodFolder, base_folder
from derived.search.projection import build
from derived.search.reindexing import outlook, reindex
from drills.damages import search as damages
from drills.damages.place import Cell, Place
from oltp.commands.execute import execute
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from reconcile.comparison_run import run_pairs
from reconcile.context import ReconcileContext
from repair.values import ActionKind
from stack.composition.comparison import build_reconcile_context
from stack.composition.damaging import place_of
from stack.composition.projections import prepare_projection
from streams.parking import replay_parked
from tests.conftest import Cluster
from tests.integration.moving import move
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

    def place(self) -> Place:
        """Pod 1 as the place of a damage; without workers, the lake follows when a damage waits for it."""
        place = place_of(self.settings, "pod1")

        def cut_in_the_lake(pod: str) -> int:
            cut = place.tools.newest_cut(pod)
            propagate(self.settings, self.settings.pod(pod), ("lake",))
            return cut

        return replace(place, tools=replace(place.tools, newest_cut=cut_in_the_lake))

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
        done = damaged.do(world.place())
        result = world.compare()
        assert result.verdict is Verdict.INCONSISTENT, cell.damage
        wanted = set().union(*damaged.named.values())
        assert not wanted or wanted <= {DifferenceClass(name) for name in result.classes}, (cell.damage, result.classes)
        if ActionKind.REPLAY_PARKED in cell.actions:
            replayed = replay_parked(world.view(), "pod1", datetime.now(UTC), keys=done.aggregates)
            assert replayed.replayed_events > 0 and not replayed.still_parked
        elif done.aggregates:
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


def test_an_index_of_the_version_before_serves_until_the_new_one_is_built(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = base_folder(world.settings)
    before = as_of_the_version_before(world, monkeypatch)
    assert {path.name for path in base.parent.iterdir()} == {"v1"}
    assert world.titles() == before and world.titles(text="lanterns") == {"Brass lantern", "Tin lantern"}
    without_consumer = carrying(build_reconcile_context(world.settings, lag_seconds_max=10), world.settings, ("lake",))
    assert replace(world, context=without_consumer).compare().verdict is Verdict.CONSISTENT, "compared as it stands"
    with pytest.raises(PropagationError, match="older version"):
        world.view().rebuild("pod1", [f"{world.shops[0].merchant_id}/merchant/{world.shops[0].merchant_id}"])
    assert outlook(world.settings, "pod1").schema == "v1"

    asking = Search(base)
    question = Question(merchant_id=world.shops[0].merchant_id, limit=50)
    old = asking.ask("pod1", question)
    world.upsert("While nobody followed")
    for pod in ("pod1", "pod2"):
        prepare_projection("search", world.settings, pod)
    new = asking.ask("pod1", question)
    assert (new.total, new.applied_cut) == (old.total, old.applied_cut), (
        "nothing is missing, nothing came before its cut"
    )
    assert world.titles() == before
    world.propagate()
    assert world.titles() == before | {"While nobody followed"} and world.compare().verdict is Verdict.CONSISTENT
    assert (base.with_name("v1") / "pod1").is_dir(), "whoever reads it still goes on"
    prepare_projection("search", world.settings, "pod1")
    assert not (base.with_name("v1") / "pod1").exists() and (base.with_name("v1") / "pod2").is_dir()


def as_of_the_version_before(world: World, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Build both pods' indexes with the fields of version 1, in its place; return what the first shop offers."""
    titles, base = world.titles(), base_folder(world.settings)
    shutil.rmtree(base)
    schema.schema.cache_clear()
    try:
        with monkeypatch.context() as until:
            until.setattr(schema, "SchemaBuilder", WithoutDirectoryEpoch)
            for pod in ("pod1", "pod2"):
                reindex(world.settings, pod)
    finally:
        schema.schema.cache_clear()
    base.rename(base.with_name("v1"))
    return titles


class WithoutDirectoryEpoch:
    """Makes the schema of version 1."""

    def __init__(self) -> None:
        self._builder = SchemaBuilder()

    def __getattr__(self, name: str) -> Any:
        def add(*names: str, **options: Any) -> Any:
            return None if names[:1] == (schema.DIRECTORY_EPOCH,) else getattr(self._builder, name)(*names, **options)

        return add


@pytest.mark.in_turn("moved")
def test_a_merchant_that_moved_is_found_whole_compared_and_mended(world: World, postgres: Cluster) -> None:
    shop, other = world.shops
    jug = world.upsert("Stone jug")
    world.propagate()
    left = world.titles()
    move(world.settings, postgres, shop.merchant_id)
    pods = [pod.pod for pod in world.settings.pods]

    def found(text: str = "") -> set[str]:
        question = Question(merchant_id=shop.merchant_id, text=text, limit=50)
        hits = Search(base_folder(world.settings)).ask("pod2", question, moved_among=pods).hits
        return {hit.product.title for hit in hits}

    assert found() == left, "before any event of its new pod"
    shop.pod = other.pod
    world.upsert("Stone bowl", product_id=jug)
    world.upsert("Wool cap")
    world.propagate()
    assert found() == left - {"Stone jug"} | {"Stone bowl", "Wool cap"}
    assert found("stone") == {"Stone bowl"}
    for pod in pods:
        assert world.compare(pod).verdict is Verdict.CONSISTENT

    key = f"{shop.merchant_id}/product/{jug}"
    with damages.index(place_of(world.settings, "pod2")) as opened:
        opened.remove(key)
    assert found("stone") == {"Stone jug"}, "the copy of the new pod is damaged: its loss shows the older name"
    result = world.compare("pod2")
    assert {one.aggregate_key for one in result.sample} == {key}
    world.view().rebuild("pod2", [key])
    assert found("stone") == {"Stone bowl"}
    for pod in pods:
        assert world.compare(pod).verdict is Verdict.CONSISTENT


def test_a_reindexing_that_fails_leaves_the_old_index_current(world: World) -> None:
    def no_lake() -> None:
        raise OSError("The disk is full.")

    with pytest.raises(OSError, match="disk is full"):
        reindex(world.settings, "pod1", no_lake)  # type: ignore[arg-type]
    folder = PodFolder(base_folder(world.settings), "pod1")
    assert [path.name for path in folder.generations()] == ["g000001"]
    assert world.compare().verdict is Verdict.CONSISTENT
