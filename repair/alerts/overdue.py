"""Alerts about overdue comparisons: people are alerted once, and once more when all are in time again.

A late copy causes no alert. But when something was not compared within the stated time, a difference in it would not be
found, whatever the reason: failing runs, an unreadable store, a copy that never catches up. A store that no comparison
can read is broken (a lost file, a dropped table), so that alert comes earlier. After the machine was off for a night,
everything is overdue until the first comparisons have run. So a sender that started a short while ago waits.

Belongs here: when these alerts are due, and their texts; pure. Does not belong here: coverage itself
(`reconcile/coverage.py`).
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
from repair.alerts.queue import Message
from repair.alerts.texts import more

PATIENCE = timedelta(hours=1)
"""How long the sender must have run before it sends this alert."""
BLIND = timedelta(minutes=30)
"""For how long every comparison must have been unknown before people are told that a store cannot be read."""
SHOWN = 10
HOURS = SWEEP_SECONDS_MAX // 3600


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A comparison that did not cover everything within the stated time."""

    pair: str
    pod: str
    since: datetime | None
    """The time since which every key was compared at least once; None: not all keys ever were."""
    newest: PairResult | None
    """The newest result; None: there is none."""
    blind_since: datetime | None = None
    """Since when every result was unknown; None: the newest one was not."""


def overdue(
    wanted: Iterable[tuple[str, str]],
    known: Mapping[tuple[str, str], Coverage],
    newest: Collection[PairResult],
    now: datetime,
    unknown_since: Mapping[tuple[str, str], datetime] | None = None,
) -> list[Overdue]:
    """Return those of the wanted comparisons (pair, pod) that are overdue, or that no run can make."""
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
    """Return the message that is due now, if any.

    `told_at` and `over_at`: when people were last told that comparisons are overdue, and that they are in time again.
    """
    is_told = told_at is not None and (over_at is None or over_at < told_at)
    if not found:
        return _in_time(told_at) if is_told and told_at is not None else None
    if is_told or now - _running_since(beat, now) < PATIENCE:
        return None
    # Two senders at the same time use the same subject, so only one message is written.
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
