"""Drills in Dagster: the proofs in the control database as checks, by the clock, and the run that makes new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

import checks.drills
from assets.platform import PLATFORM
from assets.trust import DRILLS as DRILLS_KEY
from assets.trust import drills
from checks.drills import check_name, last_proofs
from contracts.clock import utc_now
from contracts.drills import DRILLS, PROOF_AGE_MAX, Drill
from contracts.ownership import COPIES
from contracts.settings import Settings
from drills.observing import Notes, judge
from drills.records import migrate, newest_proofs, record
from orchestration.definitions import build_definitions
from orchestration.resources import build_platform


@pytest.fixture
def recorded(settings: Settings) -> Settings:
    """Settings whose control database knows that every drill held a day ago."""
    migrate(settings.control_dsn)
    migrate(settings.control_dsn)
    for drill in DRILLS:
        keep(settings, drill, run="yesterday", ended_at=utc_now() - timedelta(days=1))
    return settings


def keep(settings: Settings, drill: Drill, *, run: str, ended_at: datetime, failure: str = "") -> None:
    notes = Notes()
    for promise in drill.promises:
        notes.add(promise, "pod1", expected="so", seen="so", is_ok=True)
    outcome = judge(
        drill, notes, started_at=ended_at - timedelta(seconds=9), ended_at=ended_at, seconds_broken=3, failure=failure
    )
    record(settings.control_dsn, outcome, run=run, code_version="abc", evidence=f"/evidence/{drill.name}.json")


def look(settings: Settings) -> Mapping[str, dg.AssetCheckEvaluation]:
    """Run the checks and return their evaluations by copy."""
    job = dg.define_asset_job("proofs", selection=dg.AssetSelection.checks(*last_proofs.check_keys))
    definitions = dg.Definitions(
        assets=[drills], asset_checks=[last_proofs], jobs=[job], resources={PLATFORM: build_platform(settings)}
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("proofs").execute_in_process(instance=instance)
    found = {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}
    assert set(found) == {check_name(copy.name) for copy in COPIES}
    return {copy.name: found[check_name(copy.name)] for copy in COPIES}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[timedelta]]:
    """A list with how far the checks' clock is ahead."""
    ahead = [timedelta()]
    monkeypatch.setattr(checks.drills, "utc_now", lambda: utc_now() + ahead[0])
    yield ahead


def test_proofs_pass_until_they_are_too_old_and_a_failure_fails_its_copy_only(
    recorded: Settings, clock: list[timedelta]
) -> None:
    assert all(evaluation.passed for evaluation in look(recorded).values())

    clock[0] = PROOF_AGE_MAX
    found = look(recorded)
    assert not any(evaluation.passed for evaluation in found.values())
    assert {evaluation.severity for evaluation in found.values()} == {dg.AssetCheckSeverity.ERROR}
    assert found["lake"].description is not None and "replay: too old" in found["lake"].description

    clock[0] = timedelta()
    (lag,) = [drill for drill in DRILLS if drill.name == "lake-lag"]
    keep(recorded, lag, run="today", ended_at=utc_now(), failure="It broke.")
    found = look(recorded)
    assert {name for name, evaluation in found.items() if not evaluation.passed} == {"lake"}
    assert found["lake"].severity is dg.AssetCheckSeverity.ERROR
    (proof,) = [one for one in newest_proofs(recorded.control_dsn) if (one.system, one.test) == ("lake", "lag")]
    assert (proof.run, proof.has_held, proof.problems) == ("today", False, ["It broke."])


def test_what_was_never_drilled_is_a_warning(settings: Settings) -> None:
    migrate(settings.control_dsn)
    found = look(settings)
    assert not any(evaluation.passed for evaluation in found.values())
    assert {evaluation.severity for evaluation in found.values()} == {dg.AssetCheckSeverity.WARN}


def test_a_run_drills_everything_and_shows_the_matrix(settings: Settings) -> None:
    migrate(settings.control_dsn)

    def drill(say: object) -> Path:
        for one in DRILLS:
            keep(settings, one, run="now", ended_at=utc_now())
        return Path("/evidence/index.html")

    platform = replace(build_platform(settings), drill=drill)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([drills], instance=instance, resources={PLATFORM: platform})
    (event,) = result.asset_materializations_for_node("trust__drills")
    assert event.asset_key == DRILLS_KEY
    assert str(event.metadata["summary"].value).startswith(f"{len(DRILLS)} of {len(DRILLS)} drills proven")


def test_the_drills_run_every_night_with_their_checks(settings: Settings) -> None:
    definitions = build_definitions(settings)
    (schedule,) = [one for one in definitions.schedules or [] if one.name == "drills_schedule"]
    assert isinstance(schedule, dg.ScheduleDefinition) and schedule.cron_schedule == "17 2 * * *"
    layer = definitions.resolve_job_def("drills").asset_layer
    assert layer.asset_graph.materializable_asset_keys == {DRILLS_KEY}
