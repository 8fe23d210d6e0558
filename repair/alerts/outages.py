"""Alerts about servers and workers that do not answer and copies with too much lag: when it begins and when it ends.

An outage is not a break: no values differ, but something cannot be reached. An outage of some seconds, in which a
process was restarted, causes no alert; `tieout status` counts it. These alerts must also work when the databases are
down, so they need none (`stack/upkeep/watching.py`).

A late copy causes no alert; a copy that lags more than the largest allowed lag does.

Belongs here: when these alerts are due, and their texts; pure. Does not belong here: observing, storing and sending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from contracts.text import counted
from repair.alerts.deciding import AlertKind
from repair.alerts.queue import Message

SHOWN = 10
NEEDS_PERSON = "It does not go on by itself: the reason says what a person must do."


class About(StrEnum):
    """The kind of thing that has a trouble."""

    SERVER = "server"
    WORKER = "worker"
    COPY = "copy"
    """The copy has too much lag; its store answers."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """The texts for one kind of outage."""

    begun: AlertKind
    over: AlertKind
    begun_title: str
    over_title: str
    lasted: str
    """Words before the duration."""
    still: str
    """The state of others of this kind that are not over."""
    goes_on: str
    """Says that committed data are safe; replaced by `NEEDS_PERSON` when a person must act."""


DOWN = Words(
    begun=AlertKind.OUTAGE,
    over=AlertKind.OUTAGE_OVER,
    begun_title="Down",
    over_title="Answers again",
    lasted="down for",
    still="down",
    goes_on="A stop loses nothing that was committed. What Tieout has started itself it starts again.",
)
BEHIND = Words(
    begun=AlertKind.BEHIND,
    over=AlertKind.CAUGHT_UP,
    begun_title="Behind",
    over_title="In time again",
    lasted="behind for",
    still="behind",
    goes_on="What its pod has committed is kept there, and the copy goes on where it stands.",
)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One finding: a server or worker that does not answer, or a copy with too much lag."""

    name: str
    """Its name, the same in every observation, e.g. `server valkey`."""
    sentence: str
    """What is wrong, e.g. `Valkey valkey (log) at 127.0.0.1:6379 does not answer: connection refused`."""
    when_down: tuple[str, ...] = ()
    """What still works for users without it, a sentence each."""
    look: str = "tieout status"
    runbook: str = "docs/runbooks/servers.md"
    about: About = About.SERVER
    needs_person: bool = False
    """Whether it cannot recover without a person."""
    patience_seconds: float = 20.0
    """How long it must last before people are alerted; longer than a restart takes."""


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A trouble that has not ended, with the time when it was first found."""

    name: str
    sentence: str
    since: datetime
    about: About = About.SERVER
    is_told: bool = False
    """Whether a message about it was written."""

    @property
    def words(self) -> Words:
        """The texts for its kind."""
        return BEHIND if self.about is About.COPY else DOWN


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The outages and messages after one observation."""

    outages: tuple[Outage, ...]
    messages: tuple[Message, ...]


def observe(known: Mapping[str, Outage], found: Sequence[Trouble], now: datetime) -> Observed:
    """Return the outages after an observation `found` at `now`, and the messages that are due."""
    lasting = {
        trouble.name: replace(known[trouble.name], sentence=trouble.sentence)
        if trouble.name in known
        else Outage(name=trouble.name, sentence=trouble.sentence, since=now, about=trouble.about)
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
    messages = []
    for words in (DOWN, BEHIND):
        if begun := [one for one in due if lasting[one.name].words is words]:
            messages.append(_begun(begun, lasting, words))
        if ended := [one for one in over if one.words is words]:
            left = [one for one in outages if one.is_told and one.words is words]
            messages.append(_over(ended, left, now, words))
    return Observed(outages=outages, messages=tuple(messages))


def _begun(due: Sequence[Trouble], lasting: Mapping[str, Outage], words: Words) -> Message:
    lines = [f"- {one.sentence}, since {lasting[one.name].since:%Y-%m-%d %H:%M:%S} UTC" for one in due[:SHOWN]]
    holding = dict.fromkeys(text for one in due for text in one.when_down)
    lines += [f"- and {len(due) - SHOWN:,} more"] if len(due) > SHOWN else []
    lines += [
        "",
        *(f"Still holds for users: {text}" for text in holding),
        NEEDS_PERSON if any(one.needs_person for one in due) else words.goes_on,
        "A message says when it is over.",
        f"Look: {', '.join(dict.fromkeys(one.look for one in due))}",
        f"Runbook: {', '.join(dict.fromkeys(one.runbook for one in due))}",
    ]
    others = f" and {len(due) - 1:,} more" if len(due) > 1 else ""
    first = min(lasting[one.name].since for one in due)
    subject = f"{due[0].name} since {first.isoformat()}"
    title = f"[Tieout] {words.begun_title}: {due[0].name}{others}"
    return Message(kind=words.begun, title=title, body="\n".join(lines), subject=subject)


def _over(over: Sequence[Outage], left: Sequence[Outage], now: datetime, words: Words) -> Message:
    lines = [f"- {one.name}, {words.lasted} {_lasted(now - one.since)}" for one in over[:SHOWN]]
    lines += [f"- and {len(over) - SHOWN:,} more"] if len(over) > SHOWN else []
    others_are = counted(len(left), "other is", "others are")
    still = f"{others_are} still {words.still}: {', '.join(one.name for one in left[:SHOWN])}."
    nothing = f"Nothing that people were told of is {words.still} any more."
    lines += ["", still if left else nothing, "Look: tieout status"]
    others = f" and {len(over) - 1:,} more" if len(over) > 1 else ""
    subject = f"{over[0].name} since {min(one.since for one in over).isoformat()}"
    title = f"[Tieout] {words.over_title}: {over[0].name}{others}"
    return Message(kind=words.over, title=title, body="\n".join(lines), subject=subject)


def _lasted(past: timedelta) -> str:
    seconds = max(0, int(past.total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
