"""Servers and workers that do not answer: people are told once, and once more when they answer again.

An outage is no break: nothing differs, something cannot be reached. One that is over within seconds, because whatever
ended was started again, wakes nobody; it is counted by `tieout status`. Who is told must not depend on what is down, so
these messages need no database (`stack/watching.py`).

Belongs here: when that is told, and the texts; pure. Does not belong here: looking, keeping and sending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contracts.text import counted
from repair.alerts.deciding import AlertKind
from repair.alerts.outbox import Message

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """What is found not to run or answer."""

    name: str
    """Under which it is known from look to look, e.g. `server valkey`."""
    sentence: str
    """What is wrong, e.g. `Valkey valkey (log) at 127.0.0.1:6379 does not answer: connection refused`."""
    when_down: tuple[str, ...] = ()
    """What users still have without it, a sentence each."""
    look: str = "tieout status"
    patience_seconds: float = 20.0
    """How long it must last until people are told: longer than a restart takes."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A trouble that lasts."""

    name: str
    sentence: str
    since: datetime
    is_told: bool = False
    """Whether a message about it was written."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What a look comes to."""

    outages: tuple[Outage, ...]
    messages: tuple[Message, ...]


def observe(known: Mapping[str, Outage], found: Sequence[Trouble], now: datetime) -> Observed:
    """Return the outages after a look, and what people are to be told of them now."""
    lasting = {
        trouble.name: replace(known[trouble.name], sentence=trouble.sentence)
        if trouble.name in known
        else Outage(name=trouble.name, sentence=trouble.sentence, since=now)
        for trouble in found
    }
    due = [
        trouble
        for trouble in found
        if not lasting[trouble.name].is_told
        and now - lasting[trouble.name].since >= timedelta(seconds=trouble.patience_seconds)
    ]
    over = [outage for name, outage in known.items() if name not in lasting and outage.is_told]
    told = {trouble.name for trouble in due}
    outages = tuple(replace(one, is_told=True) if one.name in told else one for one in lasting.values())
    messages = [_down(due, lasting)] if due else []
    messages += [_over(over, [one for one in outages if one.is_told], now)] if over else []
    return Observed(outages=outages, messages=tuple(messages))


def _down(due: Sequence[Trouble], lasting: Mapping[str, Outage]) -> Message:
    lines = [f"- {one.sentence}, since {lasting[one.name].since:%Y-%m-%d %H:%M:%S} UTC" for one in due[:SHOWN]]
    holding = dict.fromkeys(text for one in due for text in one.when_down)
    lines += [f"- and {len(due) - SHOWN:,} more"] if len(due) > SHOWN else []
    lines += [
        "",
        *(f"Still holds for users: {text}" for text in holding),
        "Nothing that was committed is lost. What Tieout has started itself it starts again.",
        "A message says when it is over.",
        f"Look: {', '.join(dict.fromkeys(one.look for one in due))}",
        "Runbook: docs/runbooks/servers.md",
    ]
    others = f" and {len(due) - 1:,} more" if len(due) > 1 else ""
    first = min(lasting[one.name].since for one in due)
    subject = f"{due[0].name} since {first.isoformat()}"
    title = f"[Tieout] Down: {due[0].name}{others}"
    return Message(kind=AlertKind.OUTAGE, title=title, body="\n".join(lines), subject=subject)


def _over(over: Sequence[Outage], left: Sequence[Outage], now: datetime) -> Message:
    lines = [f"- {one.name}, down for {_lasted(now - one.since)}" for one in over[:SHOWN]]
    lines += [f"- and {len(over) - SHOWN:,} more"] if len(over) > SHOWN else []
    still = f"{counted(len(left), 'other is', 'others are')} still down: {', '.join(one.name for one in left[:SHOWN])}."
    lines += ["", still if left else "Nothing that people were told of is down any more.", "Look: tieout status"]
    others = f" and {len(over) - 1:,} more" if len(over) > 1 else ""
    subject = f"{over[0].name} since {min(one.since for one in over).isoformat()}"
    title = f"[Tieout] Answers again: {over[0].name}{others}"
    return Message(kind=AlertKind.OUTAGE_OVER, title=title, body="\n".join(lines), subject=subject)


def _lasted(past: timedelta) -> str:
    seconds = max(0, int(past.total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
