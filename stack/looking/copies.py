"""How far every copy of every pod is behind. It can be read even when a part is down.

Belongs here: asking each copy. Does not belong here: the rest of the status (`status.py`), who is alerted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from contracts.ownership import CART, WAREHOUSE, Copy, Lateness
from contracts.settings import PodSettings, Settings
from stack.composition.projections import observed_projection

Answer = TypeVar("Answer")
UNREACHABLE = "unreachable"


@dataclass(frozen=True, kw_only=True)
class ProjectionStatus:
    """One copy of one pod, and its lag: events that the pod has committed and that wait in its outbox or in the log."""

    name: str
    pod: str
    applied_cut: int | None = None
    lag_seconds: float | None = None
    lag_events: int | None = None
    parked: int | None = None
    """Aggregates that wait because one of their events could not be applied."""
    state: str = UNREACHABLE
    """current, behind, parked, gap, ahead (the log lost cuts, or the pod was set back), or unreachable."""
    error: str | None = None


def projection_status(copy: Copy, pod: PodSettings, values: Settings) -> ProjectionStatus:
    """Return how far a copy that follows the log has applied the events of a pod."""
    from streams.clocks import database_clock
    from streams.lag import observe
    from streams.logs import build_log

    def ask() -> ProjectionStatus:
        with closing(build_log(values)) as log:
            seen = observe(observed_projection(copy.name, values), pod.pod, log, clock=database_clock(pod.reader_dsn))
        return ProjectionStatus(
            name=copy.name,
            pod=pod.pod,
            applied_cut=seen.applied_cut,
            lag_seconds=round(seen.lag_seconds, 3),
            lag_events=seen.lag_events,
            parked=seen.parked,
            state=seen.state,
        )

    return asked(ask, lambda error: ProjectionStatus(name=copy.name, pod=pod.pod, error=error))


def cart_status(pod: PodSettings, values: Settings) -> ProjectionStatus:
    """Return how many carts wait to be written to a pod, and for how long. A cart has no cuts."""
    from stack.looking.carts import waiting_of

    def ask() -> ProjectionStatus:
        number, seconds = waiting_of(values, pod.pod)
        state = "current" if CART.lateness(seconds) is Lateness.FRESH else "behind"
        return ProjectionStatus(
            name=CART.name, pod=pod.pod, lag_seconds=round(seconds, 3), lag_events=number, parked=0, state=state
        )

    return asked(ask, lambda error: ProjectionStatus(name=CART.name, pod=pod.pod, error=error))


def warehouse_statuses(values: Settings) -> list[ProjectionStatus]:
    """Return how far the warehouse is built, per pod."""
    from derived.warehouse_lag import observe_warehouse

    def ask() -> list[ProjectionStatus]:
        return [
            ProjectionStatus(
                name=WAREHOUSE.name,
                pod=seen.pod,
                applied_cut=seen.built_cut,
                lag_seconds=round(seen.lag_seconds, 3),
                lag_events=seen.lag_events,
                parked=0,
                state="current" if WAREHOUSE.lateness(seen.lag_seconds) is Lateness.FRESH else "behind",
            )
            for seen in observe_warehouse(values)
        ]

    return asked(
        ask, lambda error: [ProjectionStatus(name=WAREHOUSE.name, pod=pod.pod, error=error) for pod in values.pods]
    )


def asked(ask: Callable[[], Answer], unreachable: Callable[[str], Answer]) -> Answer:
    """Return the answer, or `unreachable` of the error's first line after any error, so that the status never fails."""
    try:
        return ask()
    except Exception as error:
        return unreachable(str(error).strip().partition("\n")[0])
