"""The sender of alerts, as a sensor: starting a run process each minute would cost more than sending the messages.

Twice a minute it writes the messages that are due about incidents, and sends the waiting ones. Two senders (or this one
and `tieout alerts --send`) never send a message twice, because a sender claims a message before it sends it.

Belongs here: when messages are written and sent. Does not belong here: which messages (`repair/alerts/`).
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
    """Write and send messages; report what was sent or refused as an observation of the asset of alerts."""
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
