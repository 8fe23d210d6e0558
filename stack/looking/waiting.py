"""What a pod waits for, for `tieout status`: transactions that have been open for a long time, calls to the provider.

Belongs here: the queries. Does not belong here: what is shown for a pod that does not answer
(`stack/looking/status.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts.settings import PodSettings


@dataclass(frozen=True, kw_only=True)
class OpenStatus:
    """A transaction that has been open in a pod for a long time. It delays its own events and blocks vacuum."""

    pod: str
    what: str
    whose: str
    seconds: float
    to_end_it: str


@dataclass(frozen=True, kw_only=True)
class CallsStatus:
    """Calls of a pod to the payment provider whose outcome is not recorded yet."""

    pod: str
    calls: int
    oldest_seconds: float


def open_in(pod: PodSettings) -> list[OpenStatus]:
    """Return the transactions that have been open in a pod for a long time, the oldest first."""
    from streams.holders import open_transactions

    return [OpenStatus(pod=pod.pod, **vars(found)) for found in open_transactions(pod.reader_dsn)]


def calls_of(pod: PodSettings) -> list[CallsStatus]:
    """Return one row about a pod's calls to the payment provider without an outcome for a minute or more, if any."""
    from oltp.settling import unsettled_calls

    calls, oldest_seconds = unsettled_calls(pod.reader_dsn)
    return [CallsStatus(pod=pod.pod, calls=calls, oldest_seconds=round(oldest_seconds, 3))] if calls else []
