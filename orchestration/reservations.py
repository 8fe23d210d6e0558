"""Each minute: reservations and gift cards whose time is over, and calls to the payment provider, come to their end.

In a sensor: a process for a run each minute would cost more than all it does, and on a busy machine such runs would
stand before everybody else's in the queue. The job `reservation_expiry` does the same when somebody starts it.
"""

from collections.abc import Callable

import dagster as dg
from dagster import OpExecutionContext

from assets.platform import PLATFORM, platform_of
from contracts.settings import PodSettings, Settings
from contracts.text import counted
from oltp.commands.execute import build_command_pod
from oltp.expiry import expire_due
from oltp.settling import settle_provider_calls
from orchestration.upkeep import without_secrets
from streams.clocks import database_clock

LOOK_SECONDS = 60

Say = Callable[[str], None]


def expire_what_is_due(settings: Settings) -> dict[str, int]:
    """End reservations and gift cards whose time is over; return how many, by pod."""
    return {pod.pod: _expire(pod) for pod in settings.pods}


def _expire(pod_settings: PodSettings) -> int:
    # By the database's clock: one that is ahead would give units away that are still held.
    clock = database_clock(pod_settings.reader_dsn)
    with build_command_pod(pod_settings, connections_max=1, clock=clock) as pod:
        return expire_due(pod)


def settle_left_calls(settings: Settings, warn: Say) -> dict[str, int]:
    """Bring calls to the payment provider to their end that nobody waits for any more; return how many, by pod."""
    settled = {}
    for pod_settings in settings.pods:
        with build_command_pod(pod_settings, connections_max=1) as pod:
            done = settle_provider_calls(pod)
        settled[pod_settings.pod] = done.settled
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
    """Expire, settle, and say how many; starts no run."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        try:
            expired = expire_what_is_due(settings)
        finally:
            # A pod where nothing can be expired keeps nobody's money waiting.
            settled = settle_left_calls(settings, context.log.warning)
    ended = counted(sum(expired.values()), "reservation or gift card", "reservations and gift cards")
    return dg.SkipReason(f"{ended} expired, {counted(sum(settled.values()), 'call')} settled.")


@dg.op(required_resource_keys={PLATFORM})
def expire_and_settle(context: OpExecutionContext) -> None:
    """Do what the sensor does, once."""
    settings = platform_of(context).settings
    with without_secrets(settings):
        context.add_output_metadata({f"expired_{pod}": number for pod, number in expire_what_is_due(settings).items()})
        settle_left_calls(settings, context.log.warning)


@dg.job(description="Ends reservations and gift cards whose time is over, and settles calls to the payment provider.")
def reservation_expiry() -> None:
    """Expire reservations, settle calls."""
    expire_and_settle()
