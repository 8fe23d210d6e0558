"""What is measured every five minutes without a run: every check of the job, and none passes that could not look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from assets.graph import LAKE_EVENTS
from contracts.settings import Settings
from orchestration import measures, reservations
from orchestration.definitions import build_definitions
from orchestration.resources import build_platform, build_resources
from orchestration.unstarted import settings_for_drawing


def test_the_sensor_evaluates_what_the_job_does_and_nothing_passes_that_cannot_be_looked_at(tmp_path: Path) -> None:
    secret = "postgresql://nobody:geheim@127.0.0.1:1/nothing"
    nowhere = "redis://:geheim@127.0.0.1:1/0"
    settings = replace(
        settings_for_drawing(tmp_path),
        control_dsn=secret,
        read_models_dsn=secret,
        carts_url=nowhere,
        cache_url=nowhere,
    )
    found = list(measures.measured(build_platform(settings)))
    job = build_definitions(settings).resolve_job_def("freshness")
    assert {
        dg.AssetCheckKey(one.asset_key, one.check_name) for one in found
    } == job.asset_layer.asset_graph.asset_check_keys
    assert not any(one.passed for one in found)
    assert all("Could not look" in (one.description or "") for one in found)
    assert not any("geheim" in (one.description or "") for one in found)


def test_it_measures_every_five_minutes_once_the_copies_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for_drawing(tmp_path)
    definitions = build_definitions(settings)
    sensor = definitions.resolve_sensor_def("measures")
    monkeypatch.setattr(
        measures,
        "measured",
        lambda platform: [dg.AssetCheckEvaluation(asset_key=LAKE_EVENTS, check_name="b", passed=True)],
    )
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None) -> tuple[int, list[str | None], str | None]:
            context = dg.build_sensor_context(
                instance=instance, resources=build_resources(settings), definitions=definitions, cursor=cursor
            )
            done = sensor.evaluate_tick(context)
            return len(done.asset_events), [one.run_key for one in done.run_requests or []], done.cursor

        events, runs, cursor = tick(None)
        assert (events, runs) == (0, []) and cursor is not None and cursor.startswith("awaited")
        instance.report_runless_asset_event(dg.AssetMaterialization(LAKE_EVENTS, partition="pod1"))
        events, runs, cursor = tick(cursor)
        assert (events, runs) == (1, [measures.FIRST_RUN_KEY]) and cursor is not None
        assert tick(cursor)[:2] == (0, [])
        earlier = float(cursor.split(" ")[1]) - measures.MEASURE_SECONDS
        assert tick(f"measured {earlier}")[:2] == (1, [])


def test_nothing_starts_a_run_each_minute(tmp_path: Path) -> None:
    schedules = build_definitions(settings_for_drawing(tmp_path)).schedules or ()
    crons = [str(one.cron_schedule) for one in schedules if isinstance(one, dg.ScheduleDefinition)]
    assert crons and not any(cron.startswith(("* ", "*/1 ", "*/5 ")) for cron in crons)


def test_reservations_are_let_go_each_minute_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for_drawing(tmp_path)
    settled: list[str] = []
    monkeypatch.setattr(reservations, "expire_what_is_due", lambda _: {"pod1": 2, "pod2": 0})

    def settle(*_: object) -> dict[str, int]:
        settled.append("pod1")
        return {"pod1": 1}

    monkeypatch.setattr(reservations, "settle_left_calls", settle)
    sensor = build_definitions(settings).resolve_sensor_def("reservations")

    def tick() -> Any:
        return sensor.evaluate_tick(dg.build_sensor_context(resources=build_resources(settings)))

    done = tick()
    assert done.skip_message == "2 reservations and gift cards expired, 1 call settled." and not done.run_requests

    # Where nothing can be expired, calls to the provider are settled all the same.
    def nothing(_: Settings) -> dict[str, int]:
        raise psycopg.OperationalError("no answer")

    monkeypatch.setattr(reservations, "expire_what_is_due", nothing)
    with pytest.raises(dg.Failure, match="no answer"):
        tick()
    assert settled == ["pod1", "pod1"]
