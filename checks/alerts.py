"""Whether people would hear of an incident: the sender runs, has a target, and its messages are accepted.

A sender that is down cannot report itself, therefore this check runs separately. If Dagster itself is down, a worker
that does not need Dagster reports it (`stack/upkeep/watching.py`).

Belongs here: this check. Does not belong here: when the alert path counts as alive (`repair/alerts/deciding.py`).
"""

import dagster as dg
from dagster import AssetCheckExecutionContext

from assets.platform import PLATFORM, Platform, platform_of
from assets.trust import ALERTS
from repair.alerts.deciding import PathState, path_state
from repair.alerts.queue import heartbeat, pending_alerts
from streams.clocks import database_clock

NAME = "alert_path_is_alive"


def path_result(state: PathState, waiting: int) -> dg.AssetCheckResult:
    """Return the check: no target is a warning, an alert path that does not work is an error."""
    return dg.AssetCheckResult(
        asset_key=ALERTS,
        check_name=NAME,
        passed=state.is_alive,
        severity=dg.AssetCheckSeverity.ERROR if state.is_broken else dg.AssetCheckSeverity.WARN,
        description=state.reason,
        metadata={"waiting": waiting, "runbook": "docs/runbooks/alerts.md"},
    )


def alert_path_now(platform: Platform) -> dg.AssetCheckResult:
    """Read the sender's heartbeat and the waiting alerts, and return the check."""
    control_dsn = platform.settings.control_dsn
    waiting = pending_alerts(control_dsn)
    return path_result(path_state(heartbeat(control_dsn), waiting, database_clock(control_dsn)()), len(waiting))


@dg.multi_asset_check(
    name=NAME,
    specs=[
        dg.AssetCheckSpec(
            NAME,
            asset=ALERTS,
            description="The sender of alerts runs, a target took a message within a day, none waits for long. "
            "Cannot catch: a target that takes messages and shows them to nobody.",
        )
    ],
    required_resource_keys={PLATFORM},
)
def alert_path(context: AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Read the sender's heartbeat and the waiting alerts."""
    return alert_path_now(platform_of(context))
