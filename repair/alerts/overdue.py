"""Comparisons that do not come round in time: people are told once, and once more when all are in time again.

A copy that is late wakes nobody. But where nothing was compared for longer than the contract states nobody would know
of a difference, whatever the reason is: runs that fail, a store that cannot be looked at, a copy that never catches up.
A store that no try can look at is not late but broken (a lost file, a dropped table): that is told sooner.
After a night in which the machine was off everything is overdue and the first comparisons mend that, so a sender that
began to run a short while ago waits.

Belongs here: when that is told, and the texts; pure. Does not belong here: coverage itself (`reconcile/coverage.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.text import counted
from contracts.verdicts import PairResult, Verdict
from reconcile.sweep import Coverage
from repair.alerts.deciding import SENDER_SECONDS_MAX, AlertKind, Heartbeat
from repair.alerts.outbox import Message
from repair.alerts.texts import more

PATIENCE = timedelta(hours=1)
"""How long the sender must have run before it says so."""
BLIND = timedelta(minutes=30)
"""For how long every try must have been unknown until people are told that a store cannot be looked at."""
SHOWN = 10
HOURS = SWEEP_SECONDS_MAX // 3600


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A comparison of which something was not looked at for longer than is stated."""

    pair: str
    pod: str
    since: datetime | None
    """Since when everything was compared at least once; None: never."""
    newest: PairResult | None
    """What the newest try gave."""
    blind_since: datetime | None = None
    """Since when no try could look at both stores; None: the newest could."""


def overdue(
    wanted: Iterable[tuple[str, str]],
    known: Mapping[tuple[str, str], Coverage],
    newest: Collection[PairResult],
    now: datetime,
    unknown_since: Mapping[tuple[str, str], datetime] | None = None,
) -> list[Overdue]:
    """Return which of the wanted comparisons (pair and pod) are overdue, or cannot be made at all."""
    tries = {(result.pair, result.pod): result for result in newest}
    found = []
    for key in wanted:
        coverage, tried = known.get(key), tries.get(key)
        blind_since = (unknown_since or {}).get(key)
        is_blind = blind_since is not None and tried is not None and tried.checked_at - blind_since >= BLIND
        if coverage is None or coverage.is_behind(now) or is_blind:
            since = None if coverage is None else coverage.oldest.compared_at
            found.append(Overdue(pair=key[0], pod=key[1], since=since, newest=tried, blind_since=blind_since))
    return found


def due_message(
    found: Sequence[Overdue], beat: Heartbeat, told_at: datetime | None, over_at: datetime | None, now: datetime
) -> Message | None:
    """Return what people are to be told now, if anything.

    `told_at` and `over_at`: when they were last told that comparisons are overdue, and that they no longer are.
    """
    is_told = told_at is not None and (over_at is None or over_at < told_at)
    if not found:
        return _in_time(told_at) if is_told and told_at is not None else None
    if is_told or now - _running_since(beat, now) < PATIENCE:
        return None
    # Two senders at once give the same subject, so one message is written.
    return _overdue(found, subject=f"after {over_at.isoformat() if over_at else 'the beginning'}")


def _running_since(beat: Heartbeat, now: datetime) -> datetime:
    """Return since when the sender has run without a pause."""
    if beat.ran_at is None or beat.up_since is None or (now - beat.ran_at).total_seconds() > SENDER_SECONDS_MAX:
        return now
    return beat.up_since


def _overdue(found: Sequence[Overdue], *, subject: str) -> Message:
    found = sorted(found, key=lambda item: item.blind_since is None)
    first = f"{found[0].pair} in {found[0].pod}"
    others = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    lines = [
        f"Everything is to be compared at least once within {HOURS} h, and every store can be looked at. "
        f"{counted(len(found), 'comparison is', 'comparisons are')} behind:",
        "",
        *map(_shown, found[:SHOWN]),
        *more(len(found) - SHOWN),
        "",
        "Nothing is known to be wrong, but a difference there would not be found, and no month closes on it. A message "
        "says when everything is compared in time again.",
        "Still holds for users: everything that is served; selling, paying and shipping go on.",
        "Look: tieout coverage; the runs of the job reconciliation in Dagster.",
        "Runbook: docs/runbooks/comparisons.md",
    ]
    what = "Cannot be compared" if found[0].blind_since else "Not compared in time"
    title = f"[Tieout] {what}: {first}{others}"
    return Message(kind=AlertKind.OVERDUE, title=title, body="\n".join(lines), subject=subject)


def _shown(item: Overdue) -> str:
    since = "never completely" if item.since is None else f"not completely since {item.since:%Y-%m-%d %H:%M} UTC"
    blind = "" if item.blind_since is None else f"every try since {item.blind_since:%Y-%m-%d %H:%M} UTC failed; "
    return f"- {item.pair} in {item.pod}: {since}; {blind}{_try(item.newest)}"


def _try(result: PairResult | None) -> str:
    if result is None:
        return "nothing has tried"
    reason = f": {result.reason}" if result.verdict in (Verdict.UNKNOWN, Verdict.LATE) else ""
    return f"the newest try, {result.checked_at:%Y-%m-%d %H:%M} UTC, was {result.verdict}{reason}"


def _in_time(told_at: datetime) -> Message:
    body = (
        f"Everything was compared at least once within {HOURS} h, as is stated. People were told "
        f"{told_at:%Y-%m-%d %H:%M} UTC that it was not.\nWhat was found meanwhile is told by itself."
    )
    title = "[Tieout] Compared in time again"
    return Message(kind=AlertKind.IN_TIME, title=title, body=body, subject=f"after {told_at.isoformat()}")
