"""Copies beyond the largest lag in the contract: we send alerts about them, as about an outage.

We judge each copy only by events that the store before it has. So events that are not in the log are a lag of the log
only, although no copy of the pod has them. A copy that does not answer is no finding here, because servers and workers
have their own watch.

Belongs here: one look at all copies, and which findings people must know. Does not belong here: when people are told,
and the texts (`repair/alerts/outages.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from contracts.ownership import CART, LOG, WAREHOUSE, Copy, Lateness
from contracts.settings import PodSettings, Settings
from contracts.text import counted
from repair.alerts.outages import About, Trouble
from stack.composition.projections import followers, observed_projection

PATIENCE_SECONDS = 15.0
"""Longer than a copy needs to catch up after a restart of the store or the worker before it."""


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far one copy of one pod is behind the store before it."""

    copy: Copy
    pod: str
    events: int
    seconds: float
    """Age of the oldest event that it lacks; 0.0 when it lacks none."""

    @property
    def name(self) -> str:
        """The name by which we recognize the lag in the next look."""
        return lag_name(self.copy, self.pod)

    @property
    def sentence(self) -> str:
        """What the copy lacks, for people."""
        lacks = f"{self.name} lacks {counted(self.events, 'event')}, the oldest {self.seconds:,.0f} s old"
        others = f", and so does every copy of {self.pod}" if self.copy is LOG else ""
        return f"{lacks}{others}; it may be {self.copy.late_seconds_max:,} s behind at most"


def lag_name(copy: Copy, pod: str) -> str:
    """Return the name of a copy of a pod, e.g. ``account view of pod1``."""
    return f"{copy.name.replace('_', ' ')} of {pod}"


@dataclass(kw_only=True)
class LagWatch:
    """The newest look at the copies of one stack. It takes longer than a look at servers, so we do it less often."""

    settings: Settings
    told: Callable[[], Collection[str]] = tuple
    """Returns the names of the copies of which people were told that they are behind."""
    observe: Callable[[Settings], Sequence[Lag | str]] | None = None
    """Returns the lag of every copy, or only the name of a copy that does not answer."""
    seconds: Callable[[], float] = time.monotonic
    began: float = field(init=False)
    troubles: tuple[Trouble, ...] = ()

    def __post_init__(self) -> None:
        """Remember when the watch began."""
        self.began = self.seconds()

    def look_once(self) -> None:
        """Look at every copy. A copy of which people were told stays behind until it is within its target again."""
        known = {one.name: one for one in self.troubles}
        told = {*self.told()}
        found = (self.observe or observe_lags)(self.settings)
        self.troubles = tuple(trouble for lag in found if (trouble := self._trouble(lag, known, told)) is not None)

    def _trouble(self, lag: Lag | str, known: dict[str, Trouble], told: Collection[str]) -> Trouble | None:
        if isinstance(lag, str):
            return known.get(lag)
        lateness = lag.copy.lateness(lag.seconds)
        is_behind = lateness is Lateness.OVERDUE or (lateness is Lateness.LATE and lag.name in told)
        return self._told(lag) if is_behind else None

    def _told(self, lag: Lag) -> Trouble:
        # After the start a copy has the time of its freshness target to catch up with what happened before.
        starting = lag.copy.freshness_seconds - (self.seconds() - self.began)
        shown = f"copies of {lag.pod} show" if lag.copy is LOG else f"the {lag.name} shows"
        return Trouble(
            name=lag.name,
            about=About.COPY,
            sentence=lag.sentence,
            when_down=(f"all of selling; {shown} everything but these events.",),
            look="tieout status",
            runbook=f"docs/{lag.copy.runbook}",
            patience_seconds=max(PATIENCE_SECONDS, starting),
        )


def observe_lags(settings: Settings) -> list[Lag | str]:
    """Return the lag of every copy of every pod; for a copy that does not answer, only its name."""
    asked: list[tuple[list[str], Callable[[], list[Lag]]]] = [
        ([lag_name(copy, pod.pod)], partial(ask, copy, pod, settings))
        for pod in settings.pods
        for copy, ask in ((LOG, _of_log), *((copy, _of_projection) for copy in followers(settings)))
    ]
    if settings.carts_url:
        asked += [([lag_name(CART, pod.pod)], partial(_of_cart, CART, pod, settings)) for pod in settings.pods]
    asked.append(([lag_name(WAREHOUSE, pod.pod) for pod in settings.pods], partial(_of_warehouse, settings)))
    with ThreadPoolExecutor(max_workers=2) as pool:
        return [lag for lags in pool.map(lambda one: _answered(*one), asked) for lag in lags]


def _answered(names: Sequence[str], ask: Callable[[], list[Lag]]) -> Sequence[Lag | str]:
    try:
        return ask()
    except Exception:  # any error: the copy does not answer, and `tieout status` says so
        return names


def _of_log(copy: Copy, pod: PodSettings, settings: Settings) -> list[Lag]:
    from streams.draining import observe_pod

    seen = observe_pod(pod, settings)
    return [Lag(copy=copy, pod=pod.pod, events=seen.unpublished_events, seconds=seen.oldest_unpublished_seconds)]


def _of_projection(copy: Copy, pod: PodSettings, settings: Settings) -> list[Lag]:
    from streams.clocks import database_clock
    from streams.lag import observe
    from streams.logs import build_log

    with closing(build_log(settings)) as log, closing(observed_projection(copy.name, settings)) as projection:
        seen = observe(projection, pod.pod, log, clock=database_clock(pod.reader_dsn))
    return [Lag(copy=copy, pod=pod.pod, events=seen.lag_events, seconds=seen.lag_seconds)]


def _of_cart(copy: Copy, pod: PodSettings, settings: Settings) -> list[Lag]:
    from stack.looking.carts import waiting_of

    number, seconds = waiting_of(settings, pod.pod)
    return [Lag(copy=copy, pod=pod.pod, events=number, seconds=seconds)]


def _of_warehouse(settings: Settings) -> list[Lag]:
    from derived.warehouse_lag import observe_warehouse

    return [
        Lag(copy=WAREHOUSE, pod=seen.pod, events=seen.lag_events, seconds=seen.lag_seconds)
        for seen in observe_warehouse(settings)
    ]
