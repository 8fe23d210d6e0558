"""Every five minutes: measure freshness in data time, the alert path, the age of proofs and the progress of the sweep.

A sensor does it, because measuring takes less time than starting a run's process; the job `freshness` does the same
when an operator starts it. On its first evaluation after an installation the sensor also requests a run of all suites
of expectations, so that their checks and Data Docs do not wait for their schedule.

Belongs here: when these checks are evaluated. Does not belong here: what they find (`checks/`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.graph import LAKE_EVENTS
from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import ALERTS, BREAKS, DRILLS
from checks import alerts, drills, freshness, sweep
from checks.evaluations import looked_at
from contracts.clock import utc_now
from contracts.ownership import COPIES
from stack.scrubbing import scrubber

LOOK_SECONDS = 30
MEASURE_SECONDS = 300
PATIENCE_SECONDS = 180
"""How long the first measurement waits until the copies are entered in Dagster (`known.py`).

Dagster counts a check as not evaluated if its asset was first materialized after the evaluation.
"""
FIRST_RUN_KEY = "expectations:first"


def measured(platform: Platform) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield an evaluation of every check that measures; a check that could not look fails and says so."""
    scrub = scrubber(platform.settings)
    for key in freshness.CHECKED.values():
        of_asset = [dg.AssetCheckKey(key, freshness.NAME)]
        yield from looked_at(of_asset, partial(freshness.freshness_of_copies, platform, {key}), scrub)
    path = [dg.AssetCheckKey(ALERTS, alerts.NAME)]
    yield from looked_at(path, lambda: iter([alerts.alert_path_now(platform)]), scrub)
    proofs = [dg.AssetCheckKey(DRILLS, drills.check_name(copy.name)) for copy in COPIES]
    yield from looked_at(proofs, partial(drills.proofs_now, platform), scrub)
    swept = [dg.AssetCheckKey(BREAKS, sweep.NAME)]
    yield from looked_at(swept, lambda: iter([sweep.sweep_now(platform)]), scrub)


def measures_sensor(suites: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """Return the sensor; `suites` is the job that runs all expectations."""

    @dg.sensor(
        name="measures",
        job=suites,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={PLATFORM},
        description="Measures freshness in data time, the way of alerts, the age of proofs and the sweep, without a "
        "run; starts the first run of expectations.",
    )
    def measures(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now = utc_now().timestamp()
        state, _, at = (context.cursor or f"awaited {now}").partition(" ")
        elapsed = now - float(at)
        is_awaited = state == "awaited"
        if is_awaited and elapsed < PATIENCE_SECONDS and not _is_known(context.instance):
            return dg.SensorResult(skip_reason="The copies are not in Dagster yet.", cursor=f"awaited {at}")
        if not is_awaited and elapsed < MEASURE_SECONDS - LOOK_SECONDS / 2:
            return dg.SkipReason(f"Measured {elapsed:.0f} s ago.")
        return dg.SensorResult(
            asset_events=list(measured(platform_of(context))),
            # Dagster starts a run only once for a run key.
            run_requests=[dg.RunRequest(run_key=FIRST_RUN_KEY)] if is_awaited else [],
            cursor=f"measured {now}",
        )

    return measures


def _is_known(instance: dg.DagsterInstance) -> bool:
    return instance.get_latest_materialization_event(LAKE_EVENTS) is not None
