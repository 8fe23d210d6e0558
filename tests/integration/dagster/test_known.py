"""What was built and compared outside Dagster is entered there: assets first, then their checks, each once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from assets.graph import LAKE_EVENTS, LOG, OUTBOX, mart_key, oltp_key
from assets.model_metadata import ROW_COUNT
from assets.trust import BREAKS
from checks.pairs import compare
from contracts.ownership import PROJECTED
from contracts.settings import Settings
from derived.build_results import KeptBuild, NodeResult, keep_build
from orchestration import known
from orchestration.known import known_sensor
from orchestration.resources import build_platform, build_resources
from stack.composition.migrations import migrate_everything
from tests.integration.reconcile_world import open_shops, propagate

JOURNAL = mart_key("journal")
COMPARED = ("oltp_lake.order", "lake_account_view")


def model(name: str, kind: str = "model", status: str = "success", rows: int | None = None) -> NodeResult:
    return NodeResult(name=name, kind=kind, status=status, failures=int(status == "fail"), message="", rows=rows)


@dg.multi_asset(
    specs=[dg.AssetSpec(JOURNAL), dg.AssetSpec(mart_key("broken"))],
    check_specs=[dg.AssetCheckSpec(name, asset=JOURNAL) for name in ("sums_to_zero", "is_unique")],
)
def warehouse() -> Iterator[Any]:
    """Stand for dbt's models."""
    yield from ()


def test_what_was_found_outside_is_entered_once_and_its_checks_count(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate_everything(settings)
    with open_shops(settings) as shops:
        shops[0].shipped()
    for pod in settings.pods:
        propagate(settings, pod, tuple(copy.name for copy in PROJECTED))
    platform = build_platform(settings)
    compare(platform, list(COMPARED), on_progress=lambda _: None)
    nodes = [model("journal", rows=7), model("broken", status="error"), model("is_unique", "test", "fail")]
    keep_build(
        settings, KeptBuild(build_id="b1", cuts={"pod1": 3}, nodes=[*nodes, model("sums_to_zero", "test", "pass")])
    )
    sensor = known_sensor(warehouse)
    cursor: str | None = None
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> list[Any]:
            """Look once, and enter it as the daemon does."""
            nonlocal cursor
            context = dg.build_sensor_context(instance=instance, resources=build_resources(settings), cursor=cursor)
            done = sensor.evaluate_tick(context)
            cursor = done.cursor
            for event in done.asset_events:
                instance.report_runless_asset_event(event)
            return list(done.asset_events)

        events = tick()
        evaluations = {one.check_name: one for one in events if isinstance(one, dg.AssetCheckEvaluation)}
        assert {name: one.passed for name, one in evaluations.items()} == {
            "oltp_lake__order": True,
            "lake_account_view": True,
            "is_unique": False,
            "sums_to_zero": True,
        }
        assert evaluations["oltp_lake__order"].metadata["compared"].value > 0  # type: ignore[operator]
        # A check that is evaluated before its asset is materialized counts as not evaluated.
        kinds = [isinstance(one, dg.AssetCheckEvaluation) for one in events]
        assert kinds == sorted(kinds)
        for key in (JOURNAL, BREAKS):
            assert instance.get_latest_materialization_event(key) is not None, key
        entered = instance.get_latest_materialization_event(JOURNAL)
        assert entered is not None and entered.asset_materialization is not None
        assert entered.asset_materialization.metadata[ROW_COUNT].value == 7
        assert instance.get_latest_materialization_event(mart_key("broken")) is None
        for key in (OUTBOX, LOG, LAKE_EVENTS):
            assert instance.get_materialized_partitions(key) == {"pod1", "pod2"}, key
        assert instance.fetch_observations(oltp_key("order"), limit=1).records

        assert tick() == []
        compare(platform, [COMPARED[0]], on_progress=lambda _: None)
        assert tick() == []  # a pass after a pass
        monkeypatch.setattr(known, "AGAIN_SECONDS", 0.0)
        compare(platform, [COMPARED[0]], on_progress=lambda _: None)
        keep_build(
            settings, KeptBuild(build_id="b2", cuts={"pod1": 4}, nodes=[*nodes, model("sums_to_zero", "test", "pass")])
        )
        again = tick()
        assert {one.check_name for one in again} == {"oltp_lake__order", "is_unique", "sums_to_zero"}

        # After its asset was made anew a check counts as not evaluated, so a pass is entered again at once.
        monkeypatch.setattr(known, "AGAIN_SECONDS", 600.0)
        assert tick() == []
        instance.report_runless_asset_event(dg.AssetMaterialization(LAKE_EVENTS, partition="pod1"))
        compare(platform, [COMPARED[0]], on_progress=lambda _: None)
        assert [one.check_name for one in tick()] == ["oltp_lake__order"]
