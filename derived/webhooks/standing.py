"""How far each endpoint is: what it was told, what waits, and up to which cut that is complete and proven.

*Complete to cut n*: of all cuts up to n, every event that the endpoint is subscribed to is noted, which a comparison
with the lake has proven, and the endpoint has acknowledged it; messages that a person has skipped are named beside it.
What an endpoint was not subscribed to, because it was
disabled or full, is said beside it.

Belongs here: reading and judging that. Does not belong here: the comparison (`reconcile/copies/webhooks.py`), its
results and the breaks, which the caller passes in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from contracts.errors import NotFoundError
from contracts.ownership import WEBHOOKS
from contracts.text import counted
from contracts.verdicts import Verdict

_ENDPOINTS = """
select e.endpoint_id, e.merchant_id, e.is_enabled, s.parked_at, coalesce(s.parked_because, ''), s.full_at,
       s.acknowledged_at, s.failed_at, coalesce(s.failed_because, '')
from webhooks.endpoints as e left join webhooks.standings as s on s.endpoint_id = e.endpoint_id
where e.deleted_at is null and (%(endpoint_id)s::text is null or e.endpoint_id = %(endpoint_id)s)
  and (%(merchant_id)s::text is null or e.merchant_id = %(merchant_id)s)
order by e.endpoint_id
"""
_PODS = """
select s.endpoint_id, s.pod, min(s.from_cut), p.cut
from webhooks.subscriptions as s
inner join (select pod, min(cut) as cut from webhooks.positions group by pod) as p on p.pod = s.pod
where s.endpoint_id = any(%s) group by s.endpoint_id, s.pod, p.cut order by s.endpoint_id, s.pod
"""
_DELIVERIES = """
select endpoint_id, pod, count(*) filter (where state = 'waiting'), count(*) filter (where state = 'acknowledged'),
       min(cut) filter (where state = 'waiting'), min(recorded_at) filter (where state = 'waiting')
from webhooks.deliveries where endpoint_id = any(%s) group by endpoint_id, pod
"""
# By the decisions, so that a lost note is named as well; what was none of the endpoint's business is not.
_SKIPS = """
from webhooks.skips as s
left join webhooks.deliveries as d on d.endpoint_id = s.endpoint_id and d.event_id = s.event_id
where s.endpoint_id = any(%s) and s.ended_at is null and d.state is distinct from 'withdrawn'
"""
_SKIPPED = f"""
select s.endpoint_id, s.pod, s.event_id, s.cut, s.event_type, s.aggregate_type, s.aggregate_id, s.skipped_at,
       s.skipped_by, s.skipped_because
{_SKIPS} order by s.skipped_at desc limit %s
"""
_SKIP_COUNTS = f"select s.endpoint_id, s.pod, count(*) {_SKIPS} group by s.endpoint_id, s.pod"
SKIPPED_SHOWN = 100
# From one subscription to the next: cuts of which the endpoint was told nothing.
_NOT_TOLD = """
select endpoint_id, pod, last + 1, from_cut - 1 from (
    select endpoint_id, pod, from_cut, max(coalesce(until_cut, 9223372036854775806)) over (
        partition by endpoint_id, pod order by from_cut, subscription_id
        rows between unbounded preceding and 1 preceding) as last
    from webhooks.subscriptions where endpoint_id = any(%s)
) as ordered where from_cut > last + 1 order by endpoint_id, pod, last
"""


_STOPPED = """
select e.endpoint_id, e.merchant_id, s.parked_at is not null, s.full_at is not null
from webhooks.standings as s
inner join webhooks.endpoints as e on e.endpoint_id = s.endpoint_id and e.deleted_at is null and e.is_enabled
where s.parked_at is not null or s.full_at is not null order by coalesce(s.parked_at, s.full_at), e.endpoint_id
"""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What the newest comparison of a pod's notes has found."""

    verdict: Verdict
    cut: int
    checked_at: datetime


@dataclass(frozen=True, kw_only=True)
class SkippedMessage:
    """A message that the endpoint was not told of, because a person has decided so."""

    event_id: str
    cut: int
    event_type: str
    aggregate_type: str
    aggregate_id: str
    skipped_at: datetime
    skipped_by: str
    skipped_because: str


@dataclass(frozen=True, kw_only=True)
class PodStanding:
    """How far an endpoint is with the events of one pod."""

    pod: str
    told_from_cut: int
    noted_cut: int
    """Everything up to this cut is noted."""
    complete_to_cut: int | None
    """Everything up to this cut was proven and acknowledged, except what was skipped; None: that is not known."""
    waiting: int
    oldest_waiting_at: datetime | None
    """When the oldest event was recorded that the endpoint does not have."""
    acknowledged: int
    """Of those whose notes are kept."""
    skipped: int = 0
    """How many messages a person has skipped."""
    skipped_messages: tuple[SkippedMessage, ...] = ()
    """The newest of them."""
    not_told: tuple[tuple[int, int], ...]
    """Cuts (first, last) of which it was told nothing, because it was disabled or full."""
    verdict: Verdict
    compared_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far one endpoint is."""

    endpoint_id: str
    merchant_id: str
    state: str
    """on, parked, disabled or full."""
    parked_at: datetime | None
    parked_because: str
    acknowledged_at: datetime | None
    failed_at: datetime | None
    failed_because: str
    pods: tuple[PodStanding, ...]


def standings(
    control_dsn: str,
    *,
    now: datetime,
    proofs: Mapping[str, Proof],
    broken: frozenset[tuple[str, str]],
    merchant_id: str | None = None,
    endpoint_id: str | None = None,
) -> list[Standing]:
    """Return how far endpoints are: all, those of a merchant, or one (NotFoundError).

    `proofs`: by pod. `broken`: (endpoint, pod) with a break that has not ended.
    """
    with psycopg.connect(control_dsn) as connection:
        connection.execute("set transaction isolation level repeatable read, read only")
        wanted = {"endpoint_id": endpoint_id, "merchant_id": merchant_id}
        endpoints = connection.execute(_ENDPOINTS, wanted).fetchall()
        if endpoint_id is not None and not endpoints:
            raise NotFoundError(f"There is no endpoint {endpoint_id!r}.")
        ids = [row[0] for row in endpoints]
        pods = connection.execute(_PODS, [ids]).fetchall()
        counts = {(row[0], row[1]): row[2:] for row in connection.execute(_DELIVERIES, [ids]).fetchall()}
        holes = connection.execute(_NOT_TOLD, [ids]).fetchall()
        skipped = _skipped(connection, ids)
        skips = {(row[0], row[1]): row[2] for row in connection.execute(_SKIP_COUNTS.encode(), [ids]).fetchall()}
    return [
        Standing(
            endpoint_id=row[0],
            merchant_id=row[1],
            state=_state(row),
            parked_at=row[3],
            parked_because=row[4],
            acknowledged_at=row[6],
            failed_at=row[7],
            failed_because=row[8],
            pods=tuple(
                replace(
                    _pod_standing(one, counts, holes, proofs.get(one[1]), broken, now),
                    skipped=skips.get((one[0], one[1]), 0),
                    skipped_messages=tuple(skipped.get((one[0], one[1]), ())),
                )
                for one in pods
                if one[0] == row[0]
            ),
        )
        for row in endpoints
    ]


def _skipped(connection: psycopg.Connection[Any], ids: Sequence[str]) -> dict[tuple[str, str], list[SkippedMessage]]:
    found: dict[tuple[str, str], list[SkippedMessage]] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute(_SKIPPED.encode(), (ids, SKIPPED_SHOWN)):
            found.setdefault((row.pop("endpoint_id"), row.pop("pod")), []).append(SkippedMessage(**row))
    return found


def stopped_endpoints(control_dsn: str) -> str:
    """Return a sentence about the endpoints that are parked or full; empty: there are none."""
    with psycopg.connect(control_dsn, connect_timeout=5) as connection:
        rows = connection.execute(_STOPPED).fetchall()
    if not rows:
        return ""
    parked, full = sum(row[2] for row in rows), sum(row[3] for row in rows)
    found = ", ".join(f"{number:,} {what}" for number, what in ((parked, "parked"), (full, "full")) if number)
    endpoint_id, merchant_id, *_ = rows[0]
    number = counted(len(rows), "endpoint is", "endpoints are")
    return f"Of merchants' webhooks {number} stopped ({found}), the first {endpoint_id} of {merchant_id}."


def _state(row: Sequence[Any]) -> str:
    _, _, is_enabled, parked_at, _, full_at, *_ = row
    return "disabled" if not is_enabled else "parked" if parked_at else "full" if full_at else "on"


def _pod_standing(
    known: Sequence[Any],
    counts: Mapping[tuple[str, str], Sequence[Any]],
    holes: Sequence[Sequence[Any]],
    proof: Proof | None,
    broken: frozenset[tuple[str, str]],
    now: datetime,
) -> PodStanding:
    endpoint_id, pod, from_cut, noted_cut = known
    waiting, acknowledged, waiting_cut, oldest_at = counts.get((endpoint_id, pod), (0, 0, None, None))
    is_late = oldest_at is not None and (now - oldest_at).total_seconds() > WEBHOOKS.late_seconds_max
    verdict = _verdict(proof, is_broken=(endpoint_id, pod) in broken, is_late=is_late)
    complete = None
    if proof is not None and proof.verdict is not Verdict.UNKNOWN and verdict is not Verdict.INCONSISTENT:
        complete = min(proof.cut, noted_cut, waiting_cut - 1 if waiting_cut is not None else noted_cut)
    return PodStanding(
        pod=pod,
        told_from_cut=from_cut,
        noted_cut=noted_cut,
        complete_to_cut=complete,
        waiting=waiting,
        oldest_waiting_at=oldest_at,
        acknowledged=acknowledged,
        not_told=tuple((hole[2], hole[3]) for hole in holes if (hole[0], hole[1]) == (endpoint_id, pod)),
        verdict=verdict,
        compared_at=None if proof is None else proof.checked_at,
    )


def _verdict(proof: Proof | None, *, is_broken: bool, is_late: bool) -> Verdict:
    if is_broken:
        return Verdict.INCONSISTENT
    if proof is None or proof.verdict is Verdict.UNKNOWN:
        return Verdict.UNKNOWN
    # A difference at another endpoint of the pod says nothing about this one.
    return Verdict.LATE if is_late or proof.verdict is Verdict.LATE else Verdict.CONSISTENT
