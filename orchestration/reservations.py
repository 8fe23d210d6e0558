"""Each minute: end reservations and gift cards that have expired, settle calls to the payment provider that were left
open, and try again its notifications that wait.

A sensor does it: a run process each minute would cost more than the work itself, and on a busy machine these runs would
delay all others in the queue. The job `reservation_expiry` does the same when an operator starts it.

Belongs here: when this is done. Does not belong here: expiring (`oltp/expiry.py`), settling
(`oltp/settling.py`), applying notifications (`oltp/notifying.py`).
"""

from collections.abc import Callable

import dagster as dg
from dagster import OpExecutionContext

from assets.platform import PLATFORM, platform_of
from contracts.settings import PodSettings, Settings
from contracts.text import counted
from oltp.commands.execute import build_command_pod
from oltp.expiry import expire_due
from oltp.notifying import apply_waiting
from oltp.settling import settle_provider_calls
from orchestration.upkeep import without_secrets
from streams.clocks import database_clock

LOOK_SECONDS = 60

Say = Callable[[str], None]


def expire_what_is_due(settings: Settings) -> dict[str, int]:
    """End reservations and gift cards that have expired; return how many, by pod."""
    return {pod.pod: _expire(pod) for pod in settings.pods}


def _expire(pod_settings: PodSettings) -> int:
    # Use the database's clock: a clock that is ahead would release units that are still reserved.
    clock = database_clock(pod_settings.reader_dsn)
    with build_command_pod(pod_settings, connections_max=1, clock=clock) as pod:
        return expire_due(pod)


def settle_left_calls(settings: Settings, warn: Say) -> dict[str, int]:
    """Settle calls to the payment provider that no request waits for, and try its notifications; return how many, by
    pod.
    """
    settled = {}
    for pod_settings in settings.pods:
        with build_command_pod(pod_settings, connections_max=1) as pod:
            done = settle_provider_calls(pod)
            tried = apply_waiting(pod)
        settled[pod_settings.pod] = done.settled + tried.ended
        for name, reason in tried.failures.items():
            warn(f"{pod_settings.pod}: notification {name} is not applied: {reason}")
        for key, reason in done.failures.items():
            warn(f"{pod_settings.pod}: the call of {key} is not settled: {reason}")
    return settled


@dg.sensor(
    name="reservations",
    minimum_interval_seconds=LOOK_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    required_resource_keys={PLATFORM},
    description="Ends reservations and gift cards whose time is over, and settles calls to the payment provider.",
)
def reservations(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Expire and settle, and report the counts as the skip reason; starts no run."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        try:
            expired = expire_what_is_due(settings)
        finally:
            # Settle even if expiring fails in a pod: payments must not wait for it.
            settled = settle_left_calls(settings, context.log.warning)
    ended = counted(sum(expired.values()), "reservation or gift card", "reservations and gift cards")
    return dg.SkipReason(f"{ended} expired, {counted(sum(settled.values()), 'call')} settled.")


@dg.op(required_resource_keys={PLATFORM})
def expire_and_settle(context: OpExecutionContext) -> None:
    """Do once what the sensor does."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        context.add_output_metadata({f"expired_{pod}": number for pod, number in expire_what_is_due(settings).items()})
        settle_left_calls(settings, context.log.warning)


@dg.job(description="Ends reservations and gift cards whose time is over, and settles calls to the payment provider.")
def reservation_expiry() -> None:
    """Expire reservations and settle calls."""
    expire_and_settle()
