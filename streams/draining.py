"""Publishes everything that is committed so far: by this process, or by the relay that already runs.

Belongs here: the function that commands and batch runs call. Does not belong here: how a relay publishes
(`streams/relay.py`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg

from contracts.errors import PropagationError, RelayBusyError, StackError
from contracts.settings import PodSettings, Settings
from streams.cuts import cut_shape, last_cut, register_cut
from streams.history import CutSource
from streams.logs import build_log
from streams.outbox_reading import OutboxObservation, held_by, observe_outbox
from streams.relay import LOST_SERVER, build_relay

POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Drained:
    """The log holds everything of the pod that was committed before the call, up to `cut`."""

    pod: str
    cut: int
    events_published: int
    """Events that this call published; 0 when the running relay did it."""
    published_by: str
    """`this process`, or the name of the relay that holds the pod's relay lock."""


def drain_pod(
    pod: PodSettings, settings: Settings, *, cut_sources: Sequence[CutSource] = (), timeout_seconds: float = 300.0
) -> Drained:
    """Publish everything that is committed so far, whether or not a relay runs.

    `cut_sources` tell whether the database was restored to an earlier state. If the running relay ends meanwhile, this
    process publishes. Raises PropagationError when a running relay needs longer than `timeout_seconds`, and what
    `Relay.drain` raises.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            with closing(build_relay(pod, settings, cut_sources=cut_sources)) as relay:
                result = relay.drain()
        except RelayBusyError:
            drained = _await_relay(pod, settings, deadline, timeout_seconds)
            if drained is not None:
                return drained
            continue
        return Drained(
            pod=pod.pod, cut=result.cut, events_published=result.events_published, published_by="this process"
        )


def observe_pod(pod: PodSettings, settings: Settings) -> OutboxObservation:
    """Return how many of the pod's events are not in the log, the age of the oldest one, and which relay publishes.

    Raises StackError when the pod or the log cannot be reached.
    """
    log = build_log(settings)
    try:
        return observe_outbox(pod.reader_dsn, log.tail(pod.pod, 1).manifest_cut)
    except LOST_SERVER as error:
        raise StackError(f"Pod {pod.pod} could not be looked at: {' '.join(str(error).split())}") from None
    finally:
        log.close()


def _await_relay(pod: PodSettings, settings: Settings, deadline: float, timeout_seconds: float) -> Drained | None:
    """Wait until the running relay has published what is committed now; return None when that relay has ended."""
    log = build_log(settings)
    try:
        with psycopg.connect(pod.relay_dsn, autocommit=True) as connection:
            registered = register_cut(connection, cut_shape(settings), registered_by="tieout drain")
            newest = registered or last_cut(connection)
            cut, holder = newest.cut if newest else 0, held_by(connection)
            while log.tail(pod.pod, 1).manifest_cut < cut:
                present = held_by(connection)
                if time.monotonic() > deadline:
                    raise PropagationError(
                        f"Pod {pod.pod} is held by {present or 'nobody'}, and cut {cut} was not published within "
                        f"{timeout_seconds:.0f} s; restart that relay."
                    )
                if present is None:
                    return None
                holder = present
                time.sleep(POLL_SECONDS)
        return Drained(pod=pod.pod, cut=cut, events_published=0, published_by=holder or "a relay that has just ended")
    finally:
        log.close()
