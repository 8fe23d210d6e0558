"""The sender of alerts, in a sensor: a run process each minute would cost more than all it does.

Twice a minute it writes what is due about incidents and sends what waits. Two of them, or one beside
`tieout alerts --send`, send nothing twice: a message is claimed first.
"""

from __future__ import annotations

import dagster as dg

from assets.platform import PLATFORM, platform_of
from assets.trust import ALERTS
from contracts.text import counted
from orchestration.upkeep import without_secrets
from stack.upkeep.alerting import tell

LOOK_SECONDS = 30


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={PLATFORM},
    description="Tells people of incidents that opened, need a person or are settled; sends digests.",
)
def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Write and send; report what was sent, or refused, on the asset of the messages."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        told = tell(settings)
    sent = told.sent
    if not sent.delivered and not sent.failed:
        return dg.SkipReason(
            f"{counted(told.written, 'message')} written, none to send; {counted(told.targets, 'target')}."
        )
    metadata: dict[str, int | str] = {
        "written": told.written,
        "delivered": len(sent.delivered),
        "failed": len(sent.failed),
        "errors": "; ".join(dict.fromkeys(error for _, error in sent.failed)) or "none",
    }
    return dg.SensorResult(asset_events=[dg.AssetObservation(asset_key=ALERTS, metadata=metadata)])
