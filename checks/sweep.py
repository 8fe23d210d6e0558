"""Whether the sweep is on time: every key of every pair was compared at least once within the stated time.

Belongs here: this check. Does not belong here: what is compared next, and the coverage (`reconcile/`).
"""

from collections.abc import Sequence
from datetime import datetime

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import BREAKS
from contracts.clock import utc_now
from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.text import counted
from reconcile.coverage import read_coverage
from reconcile.pairs import pairs_of
from reconcile.sweep import Coverage

NAME = "everything_is_compared_in_time"
COLUMNS = ("pair", "pod", "everything_compared_since", "at_or_after_cut", "is_behind")


def sweep_result(found: Sequence[Coverage], never: Sequence[tuple[str, str]], now: datetime) -> dg.AssetCheckResult:
    """Return the check: it fails if some part of a pair was not compared within the time that the contract states.

    `never` are the (pair, pod) that were never compared completely: nothing is known of them, so the check fails.
    """
    behind = [one for one in found if one.is_behind(now)]
    oldest = min((one.oldest.compared_at for one in found), default=None)
    since = "never" if oldest is None or never else f"{oldest:%Y-%m-%d %H:%M:%S} UTC"
    rows = [
        dg.TableRecord(
            {
                "pair": one.pair,
                "pod": one.pod,
                "everything_compared_since": f"{one.oldest.compared_at:%Y-%m-%d %H:%M:%S}",
                "at_or_after_cut": one.lowest_cut,
                "is_behind": one.is_behind(now),
            }
        )
        for one in found
    ]
    return dg.AssetCheckResult(
        asset_key=BREAKS,
        check_name=NAME,
        passed=bool(found) and not behind and not never,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"Everything was compared at least once since: {since}; stated: within {SWEEP_SECONDS_MAX} s. "
        f"{counted(len(behind), 'comparison is', 'comparisons are')} behind, "
        f"{counted(len(never), 'was', 'were')} never made completely.",
        metadata={
            "oldest_seconds": (now - oldest).total_seconds() if oldest else None,
            "behind": len(behind),
            "never_compared": ", ".join(f"{pair} in {pod}" for pair, pod in never) or "none",
            "coverage": dg.MetadataValue.table(rows, dg.TableSchema([dg.TableColumn(name) for name in COLUMNS])),
        },
    )


def sweep_now(platform: Platform) -> dg.AssetCheckResult:
    """Read the coverage and return the check."""
    settings = platform.settings
    found = read_coverage(settings.control_dsn)
    never = [
        (pair.name, pod.pod)
        for pair in pairs_of(settings)
        for pod in settings.pods
        if (pair.name, pod.pod) not in found
    ]
    return sweep_result(list(found.values()), never, utc_now())


@dg.asset_check(
    asset=BREAKS,
    name=NAME,
    required_resource_keys={PLATFORM},
    description=f"Every key of every pair was compared at least once within {SWEEP_SECONDS_MAX} s, changed or not.",
)
def sweep(context: AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Read the coverage and return the check."""
    return sweep_now(platform_of(context))
