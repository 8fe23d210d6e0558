"""Webhooks of a system, put together from its settings: how far endpoints are, telling again, what is proven.

Belongs here: composing these, and what the ledger says about the notes. Does not belong here: the parts
(`derived/webhooks/`), sending (`stack/composition/webhook_sending.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import psycopg
from psycopg_pool import ConnectionPool

from api.keys.store import CONNECT_SECONDS_MAX
from api.webhooks.store import EndpointStore
from contracts.breaks import ENDED, BreakState
from contracts.clock import utc_now
from contracts.errors import InputError, StackError
from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.settings import Settings
from contracts.verdicts import Verdict
from derived.lake_connection import open_lake
from derived.webhooks.again import Replay, from_cuts_at, plan_replay, replay
from derived.webhooks.skipping import Message, look, skip
from derived.webhooks.standing import Proof, Standing, standings
from reconcile.results import answered_since, latest_results
from repair import ledger
from stack.composition.webhook_sending import PAIR, master_of

BREAKS_READ = 10_000


@contextmanager
def endpoint_store(settings: Settings) -> Iterator[EndpointStore]:
    """Yield the endpoints of this system, for a command."""
    pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
        settings.control_dsn, min_size=0, max_size=1, timeout=CONNECT_SECONDS_MAX, open=True, name="webhook-endpoints"
    )
    with pool:
        yield EndpointStore(
            connections=pool,
            master=master_of(settings),
            open_hosts=settings.webhook_open_hosts,
            endpoints_max=settings.webhook_endpoints_max,
        )


def proofs_of(settings: Settings) -> dict[str, Proof]:
    """Return pod -> what the newest comparisons say of its notes."""
    newest = {one.pod: one for one in latest_results(settings.control_dsn) if one.pair == PAIR}
    found = {}
    for pod in settings.pods:
        answered = answered_since(settings.control_dsn, pod.pod, [PAIR], since_cut=0)
        if answered and (last := newest.get(pod.pod)) is not None:
            (one,) = answered
            is_old = utc_now() - one.checked_at > timedelta(seconds=SWEEP_SECONDS_MAX)
            verdict = Verdict.UNKNOWN if is_old else last.verdict
            found[pod.pod] = Proof(verdict=verdict, cut=one.cut or 0, checked_at=one.checked_at)
    return found


def broken_in(settings: Settings) -> frozenset[tuple[str, str]]:
    """Return (endpoint, pod) for each with a break that has not ended."""
    states = tuple(state for state in BreakState if state not in ENDED)
    found = ledger.breaks(settings.control_dsn, states=states, pair=PAIR, limit=BREAKS_READ)
    return frozenset((item.key[0] or "", item.pod) for item in found)


def standings_of(
    settings: Settings, *, merchant_id: str | None = None, endpoint_id: str | None = None
) -> list[Standing]:
    """Return how far endpoints are: all, those of a merchant, or one (NotFoundError)."""
    return standings(
        settings.control_dsn,
        now=utc_now(),
        proofs=proofs_of(settings),
        broken=broken_in(settings),
        merchant_id=merchant_id,
        endpoint_id=endpoint_id,
    )


def standing_json(settings: Settings, standing: Standing) -> dict[str, Any]:
    """Return how far an endpoint is as values that JSON can hold, with the times of its cuts."""
    pods = [
        {
            **asdict(one),
            "verdict": one.verdict.value,
            "not_told": [_cuts_json(cuts) for cuts in one.not_told],
            "complete_to_time": _time_of(settings, one.pod, one.complete_to_cut),
        }
        for one in standing.pods
    ]
    return {**asdict(standing), "pods": pods}


def _cuts_json(cuts: tuple[int, int]) -> dict[str, int]:
    first, last = cuts
    return {"first_cut": first, "last_cut": last}


def _time_of(settings: Settings, pod: str, cut: int | None) -> datetime | None:
    """Return when a cut was taken; None: the pod does not say so any more, or does not answer."""
    if cut is None:
        return None
    with suppress(psycopg.Error), psycopg.connect(settings.pod(pod).reader_dsn, connect_timeout=2) as connection:
        row = connection.execute("select registered_at from oltp.cuts where cut = %s", [cut]).fetchone()
        return None if row is None else row[0]
    return None


def replay_now(
    settings: Settings,
    endpoint_id: str,
    *,
    pod: str | None = None,
    from_cut: int | None = None,
    from_time: datetime | None = None,
    is_preview: bool = True,
) -> Replay:
    """Tell an endpoint's events again from a cut of a pod or a time on, or only say what that would tell."""
    try:
        return _replayed(settings, endpoint_id, pod, from_cut, from_time, is_preview=is_preview)
    except duckdb.Error as error:
        # Its message may hold the password of the lake's catalog.
        raise StackError(
            f"The lake, from which events are told again, does not answer ({type(error).__name__})."
        ) from None


def _replayed(
    settings: Settings,
    endpoint_id: str,
    pod: str | None,
    from_cut: int | None,
    from_time: datetime | None,
    *,
    is_preview: bool,
) -> Replay:
    reading = replace(settings, catalog_dsn=settings.catalog_reader_dsn or settings.catalog_dsn)
    with open_lake(reading, read_only=True) as lake:
        if from_time is not None:
            if from_time.tzinfo is None:
                raise InputError("The time needs its distance from UTC, for example 2026-03-04T12:00:00Z.")
            cuts = from_cuts_at(lake, [one.pod for one in settings.pods], from_time)
        elif pod is not None and from_cut is not None:
            known = {one.pod for one in settings.pods}
            if pod not in known:
                raise InputError(f"There is no such pod; there are {', '.join(sorted(known))}.")
            cuts = {pod: from_cut}
        else:
            raise InputError("Name either a time, or a pod and a cut.")
        planned = plan_replay(lake, settings.control_dsn, endpoint_id, cuts)
        if not is_preview:
            replay(lake, settings.control_dsn, planned, waiting_max=settings.webhook_waiting_max)
    return planned


def replay_json(planned: Replay, *, is_preview: bool) -> dict[str, Any]:
    """Return a replay as values that JSON can hold."""
    cuts = {pod: _cuts_json(cuts) for pod, cuts in planned.cuts.items()}
    return {"is_preview": is_preview, "cuts": cuts, "events": dict(planned.events), "total": planned.total}


def skip_now(
    settings: Settings, endpoint_id: str, event_id: str, *, by: str, reason: str, is_preview: bool = True
) -> Message:
    """Skip one message of a parked endpoint, or only return the message."""
    if is_preview:
        return look(settings.control_dsn, endpoint_id, event_id)
    return skip(settings.control_dsn, endpoint_id, event_id, by=by, reason=reason, now=utc_now())
