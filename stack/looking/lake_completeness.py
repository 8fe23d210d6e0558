"""Up to which moment the lake is complete, over all pods; dbt's source freshness uses this moment.

Belongs here: that moment. Does not belong here: how far each copy of each pod is behind (`stack/looking/status.py`),
which lag is allowed (`contracts/ownership.py`).
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta

from contracts.clock import Clock, utc_now
from contracts.settings import Settings
from stack.composition.projections import build_projection
from streams.clocks import database_clock
from streams.draining import observe_pod
from streams.lag import observe

UNTOLD = ("gap", "ahead")
"""States of a copy in which the log cannot tell what the copy lacks."""


def lake_complete_at(settings: Settings, *, clock: Clock = utc_now) -> datetime | None:
    """Return up to which moment the lake has what the pods have committed; that is now when it lacks nothing.

    So a pod without new events is not behind. Returns None when the log cannot tell what the lake lacks. Errors of
    servers that do not answer are raised.
    """
    from streams.logs import build_log

    behind = timedelta(0)
    with closing(build_log(settings)) as log, closing(build_projection("lake", settings)) as lake:
        for pod in settings.pods:
            seen = observe(lake, pod.pod, log, clock=database_clock(pod.reader_dsn))
            if seen.state in UNTOLD:
                return None
            unpublished = observe_pod(pod, settings).oldest_unpublished_seconds
            behind = max(behind, timedelta(seconds=max(seen.lag_seconds, unpublished)))
    return clock() - behind
