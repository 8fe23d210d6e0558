"""Failed check, one repair run, green check at a later cut; people hear of it when it opens and when it is settled."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import psycopg
import pytest
from dagster._core.storage.dagster_run import DagsterRunStatus

from assets.copies import COPY_KEYS
from assets.trust import ALERTS
from contracts.breaks import BreakState
from contracts.clock import utc_now
from contracts.runs import FOUND_BY_TAG, GROUPS_TAG, REPAIR_TAG, SCHEDULE_TAG
from contracts.settings import Settings
from orchestration import repairs
from orchestration.definitions import build_definitions
from orchestration.resources import build_resources
from repair.alerts.deciding import AlertKind
from repair.alerts.queue import latest_alerts
from repair.ledger import breaks, claim, find_group, release
from repair.ledger.incidents import Waiting
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS
from tests.integration.reconcile_world import open_shops, propagate
from tests.receivers import Webhook

ACCOUNT_VIEW = COPY_KEYS["account_view"]
CHECK = dg.AssetCheckKey(ACCOUNT_VIEW, "lake_account_view")
ALERT_PATH = dg.AssetCheckKey(ALERTS, "alert_path_is_alive")


@pytest.fixture
def watched(settings: Settings, hook: Webhook) -> Settings:
    """Two pods with trade that every copy has, and a webhook that is told of incidents."""
    migrate_everything(settings)
    with open_shops(settings) as shops:
        for shop in shops:
            shop.shipped()
    for pod in settings.pods:
        propagate(settings, pod, PROJECTIONS)
    return replace(settings, alert_urls=(hook.url(),), digest_urls=(hook.url("finance"),))


def damage(settings: Settings) -> None:
    with psycopg.connect(settings.read_models_dsn) as connection:
        changed = connection.execute(
            "update read_models.account_orders set total_minor = total_minor - 1345 where pod = 'pod1'"
        )
        assert changed.rowcount == 1


class Dagster:
    """The graph in process: its jobs and sensors as the daemon would run them."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.definitions = build_definitions(settings)
        self.instance = instance
        self._resources = build_resources(settings)

    def check(self, key: dg.AssetCheckKey, job: str, **tags: str) -> dg.AssetCheckEvaluation:
        chosen = self.definitions.resolve_job_def(job).get_subset(asset_check_selection={key})
        (evaluation,) = chosen.execute_in_process(instance=self.instance, tags=tags).get_asset_check_evaluations()
        return evaluation

    def tick(self, name: str) -> Any:
        sensor = self.definitions.resolve_sensor_def(name)
        return sensor.evaluate_tick(
            dg.build_sensor_context(
                instance=self.instance, resources=self._resources, definitions=self.definitions, sensor_name=name
            )
        )

    def requests(self) -> list[dg.RunRequest]:
        return list(self.tick("repair_open_breaks").run_requests or [])


def test_a_damaged_view_row_is_found_repaired_and_told(
    watched: Settings, hook: Webhook, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = utc_now()
    monkeypatch.setattr(repairs, "database_clock", lambda _dsn: lambda: now)
    dagster = Dagster(watched, instance)
    control_dsn = watched.control_dsn
    # Evaluations name the materialization that they looked at, once there is one.
    instance.report_runless_asset_event(dg.AssetMaterialization(ACCOUNT_VIEW))
    assert dagster.check(CHECK, "reconciliation").passed
    assert dagster.requests() == [] and not dagster.check(ALERT_PATH, "freshness").passed

    damage(watched)
    failed = dagster.check(CHECK, "reconciliation", **{SCHEDULE_TAG: "reconciliation_schedule"})
    (found,) = breaks(control_dsn)
    failed_run = find_group(control_dsn, found.group_id).opened_run
    assert not failed.passed and failed.severity is dg.AssetCheckSeverity.ERROR
    assert str(failed.metadata["break_groups"].value).startswith(f"{found.group_id} (1 key amount)")

    # People hear of it, and finance of the books; evaluated again, the sender has nothing to say.
    dagster.tick("alerts")
    assert dagster.tick("alerts").skip_message is not None
    opened = next(item for item in hook.messages if "Found" in item["title"])
    assert opened["title"] == "[Tieout] Found: 1 key with another amount, lake_account_view in pod1"
    assert "total -13.45 GBP" in opened["message"] and f"tieout breaks show {found.break_id}" in opened["message"]
    assert sorted(alert.kind for alert in latest_alerts(control_dsn)) == ["alive", "digest", "opened"]
    (digest,) = (item for item in hook.messages if "comparisons consistent" in item["title"])
    assert "1 inconsistent" in digest["title"] and "1 open" in digest["message"]
    assert dagster.check(ALERT_PATH, "freshness").passed

    with monkeypatch.context() as patch:
        patch.setattr(repairs, "is_looking", lambda _instance, run_id, _now: run_id == failed_run)
        assert dagster.requests() == []

    # One repair is asked for; not a second one while a run of it is under way, or somebody else works on the pod.
    (request,), (again,) = dagster.requests(), dagster.requests()
    assert request.run_key == again.run_key and request.job_name == "repair_pod1"
    assert request.tags[GROUPS_TAG] == str(found.group_id)
    assert request.tags[FOUND_BY_TAG] == failed_run != ""
    job = dagster.definitions.resolve_job_def("repair_pod1")
    dagster.check(CHECK, "reconciliation")
    for status in (DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTED):
        under_way = instance.create_run_for_job(job, tags={REPAIR_TAG: "pod1"}, status=status)
        assert dagster.requests() == [], status
        instance.delete_run(under_way.run_id)
    assert claim(control_dsn, run="somebody", limit=1, lease_seconds=60, clock=lambda: now)
    assert dagster.requests() == []
    release(control_dsn, "somebody", reason="not now")

    repaired = job.execute_in_process(instance=instance, tags=request.tags)
    (green,) = repaired.get_asset_check_evaluations()
    assert green.passed and green.metadata["repaired_by"].value == repaired.run_id
    assert green.metadata["groups_worked_on"].value == str(found.group_id)
    (ended,) = breaks(control_dsn)
    assert ended.state is BreakState.REPAIRED and ended.repairs == 1 and repaired.run_id in ended.reason
    stored = instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
    assert stored.run_id == repaired.run_id and stored.status.value == "SUCCEEDED"
    assert dagster.requests() == []

    dagster.tick("alerts")
    assert dagster.tick("alerts").skip_message is not None
    told = [alert.kind for alert in latest_alerts(control_dsn) if alert.group_id == found.group_id]
    assert told == [AlertKind.RESOLVED, AlertKind.OPENED]
    assert hook.titles[-1].startswith("[Tieout] Settled: 1 key") and len(hook.messages) == 4
    assert find_group(control_dsn, found.group_id).is_ended


def test_what_is_gone_by_itself_wakes_nobody(watched: Settings, hook: Webhook, instance: dg.DagsterInstance) -> None:
    dagster = Dagster(watched, instance)
    damage(watched)
    assert not dagster.check(CHECK, "reconciliation").passed
    with psycopg.connect(watched.read_models_dsn) as connection:
        connection.execute("update read_models.account_orders set total_minor = total_minor + 1345 where pod = 'pod1'")
    assert dagster.check(CHECK, "reconciliation", **{SCHEDULE_TAG: "reconciliation_schedule"}).passed
    dagster.tick("alerts")
    assert {alert.kind for alert in latest_alerts(watched.control_dsn)} == {AlertKind.ALIVE, AlertKind.DIGEST}
    (digest,) = (item for item in hook.messages if "comparisons consistent" in item["title"])
    assert "vanished before anyone was told" in digest["message"]
    assert dagster.requests() == []


def test_what_found_breaks_looks_at_everything_before_anything_is_repaired(instance: dg.DagsterInstance) -> None:
    @dg.job
    def looking() -> None: ...

    run_id = instance.create_run_for_job(looking, status=DagsterRunStatus.STARTED).run_id
    now = utc_now()
    assert repairs.is_looking(instance, run_id, now)
    # One that hangs keeps nothing waiting, and what found it may have been no run of Dagster's.
    hanging = now + timedelta(seconds=repairs.LOOKING_SECONDS_MAX)
    assert not repairs.is_looking(instance, run_id, hanging)
    assert not repairs.is_looking(instance, "by hand", now) and not repairs.is_looking(instance, "", now)
    ended = instance.create_run_for_job(looking, status=DagsterRunStatus.SUCCESS).run_id
    assert not repairs.is_looking(instance, ended, now)


def test_a_request_changes_with_the_newest_break_the_attempt_and_the_time_only() -> None:
    now = datetime.fromisoformat("2026-03-01T12:00:00+00:00")
    waiting = Waiting(
        pod="pod1",
        group_ids=[3, 7],
        found_by="a",
        breaks=2,
        newest_break_id=20,
        attempt=1,
        is_claimed=False,
    )

    def key(found: Waiting, seconds: int = 0) -> str | None:
        return repairs.request_for(found, now + timedelta(seconds=seconds)).run_key

    assert key(waiting) == key(replace(waiting, breaks=9), 599) and key(waiting) != key(waiting, 600)
    others = [replace(waiting, attempt=2), replace(waiting, newest_break_id=21), replace(waiting, pod="pod2")]
    assert len({key(waiting), *(key(other) for other in others)}) == 4
    assert key(replace(waiting, attempt=11)) == key(replace(waiting, attempt=50))
