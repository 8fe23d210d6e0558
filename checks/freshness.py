"""Freshness in data time: the age of the oldest event that a copy has not applied, against the contract.

Dagster's own freshness policies see only when something was last materialized; this sees how far behind the data is.
It cannot see an event that never reached the outbox: the comparisons find those.
"""

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.copies import COPY_KEYS
from assets.graph import log_key
from assets.platform import PLATFORM, Platform, platform_of
from contracts.ownership import LOG, copy_named
from streams.draining import observe_pod
from streams.lag import ProjectionLag, observe
from streams.valkey_log import build_log

NAME = "data_is_fresh"
COLUMNS = ("pod", "applied_cut", "log_cut", "lag_events", "lag_seconds", "parked", "state")


def lags_of(platform: Platform, projection_name: str) -> list[ProjectionLag]:
    """Return how far a projection is behind, per pod."""
    projection = platform.build_projection(projection_name)
    log = build_log(platform.settings)
    try:
        return [observe(projection, pod.pod, log) for pod in platform.settings.pods]
    finally:
        log.close()


def copy_result(name: str, lags: Sequence[ProjectionLag]) -> dg.AssetCheckResult:
    """Return the check of one copy: behind its target it warns, beyond what is "late, not wrong" it fails."""
    copy = copy_named(name)
    worst = max(lag.lag_seconds for lag in lags)
    has_gap = any(lag.state == "gap" for lag in lags)
    is_fresh = worst <= copy.freshness_seconds and not has_gap
    is_wrong = worst > copy.late_seconds_max or has_gap
    rows = [dg.TableRecord({column: getattr(lag, column) for column in COLUMNS}) for lag in lags]
    return dg.AssetCheckResult(
        asset_key=COPY_KEYS[name],
        check_name=NAME,
        passed=is_fresh,
        severity=dg.AssetCheckSeverity.ERROR if is_wrong else dg.AssetCheckSeverity.WARN,
        description=f"Oldest unapplied event: {worst:.1f} s; target {copy.freshness_seconds} s.",
        metadata={"lag_seconds": worst, "pods": dg.MetadataValue.table(rows)},
    )


def outbox_result(platform: Platform, pod: str) -> dg.AssetCheckResult:
    """Return the check of one pod's way to the log: the age of its oldest unpublished event."""
    seen = observe_pod(platform.settings.pod(pod), platform.settings)
    age = seen.oldest_unpublished_seconds
    return dg.AssetCheckResult(
        asset_key=log_key(pod),
        check_name=NAME,
        passed=age <= LOG.freshness_seconds,
        severity=dg.AssetCheckSeverity.ERROR if age > LOG.late_seconds_max else dg.AssetCheckSeverity.WARN,
        description=f"Oldest unpublished event: {age:.1f} s; target {LOG.freshness_seconds} s.",
        metadata={
            "lag_seconds": age,
            "unpublished_events": seen.unpublished_events,
            "cut": seen.cut,
            "published_by": seen.held_by or "nobody",
        },
    )


def freshness_checks(pods: Sequence[str]) -> dg.AssetChecksDefinition:
    """Return the freshness checks of the log and of every copy built from it."""
    keys = [*COPY_KEYS.values(), *(log_key(pod) for pod in pods)]

    @dg.multi_asset_check(
        name="measure_freshness",
        specs=[
            dg.AssetCheckSpec(NAME, asset=key, description="Age of the oldest event it does not have, in data time.")
            for key in keys
        ],
        can_subset=True,
        required_resource_keys={PLATFORM},
    )
    def freshness(context: AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        platform = platform_of(context)
        selected = {key.asset_key for key in context.op_execution_context.selected_asset_check_keys}
        for name, key in COPY_KEYS.items():
            if key in selected:
                yield copy_result(name, lags_of(platform, name))
        for pod in pods:
            if log_key(pod) in selected:
                yield outbox_result(platform, pod)

    return freshness
