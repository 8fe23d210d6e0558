"""A person's decision about an aggregate whose rows in OLTP no event explains.

`look` shows the aggregate and changes nothing. `approve` records that exactly the shown rows are right, and reopens the
breaks; the next repair writes an event with these rows. `correct` restores the rows from the events, with the rights of
the tables' owner. Both fail when the rows have changed since they were shown.

Belongs here: these three functions. Does not belong here: what code does without a person (`repair/plan.py`), the
dialog (`cli/`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from contracts.breaks import ENDED, Break, BreakState
from contracts.clock import Clock, utc_now
from contracts.errors import ConflictError, InputError
from contracts.events import STATE_TYPES
from contracts.events.changes import FieldChange
from contracts.ids import uuid7
from contracts.settings import Settings
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.put_back import Corrected, PutBack
from oltp.commands.restate import HAPPENS_ONCE
from repair import ledger
from repair.evidence.gathering import BuildProjection, gather
from repair.ledger.decisions import DecisionKind, write_decision
from repair.ledger.schema import ledger as writing
from repair.remedies import HOMELESS
from repair.values import AggregateEvidence

NOTHING_TO_DECIDE = "Break {id}: the newest event of {key} says what OLTP holds; there is nothing to decide."
NO_ROW = "Break {id}: OLTP has no row of {key} that could be stated. Put it back, or accept the difference."
NO_EVENT_TO_PUT_BACK = "Break {id}: neither OLTP nor any event tells of {key}."
UNREADABLE = "Break {id}: the newest event of {key} cannot be read, so nobody knows what to put back."
MOVED_SINCE = (
    "Break {id}: more of {key} has changed since its money is not explained, or that is not of itself but of its order "
    "or payment, so code cannot tell what to put back. Put its rows right by hand, then have them stated "
    "(docs/runbooks/breaks.md)."
)
ONCE = (
    "Break {id}: {key} happens once and has its event; it is never stated a second time. Put the row back, and book "
    "another one where the event was wrong."
)
FAULTY = (
    "Break {id}: figures of {key} do not agree with each other (`tieout breaks list --pair oltp_identities`); stating "
    "it would spread the fault. Correct it first."
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown to a person for the decision."""

    item: Break
    key: str
    known: AggregateEvidence

    @property
    def changes(self) -> tuple[FieldChange, ...]:
        """Every field that differs; `before` is the event's value, `after` the row's."""
        return self.known.changes

    def as_json(self) -> dict[str, Any]:
        """Return the evidence as values that JSON can hold."""
        return {
            "break_id": self.item.break_id,
            "pod": self.item.pod,
            "aggregate_key": self.key,
            "has_row": self.known.root_version is not None,
            "has_events": self.known.has_events,
            "lost_versions": list(self.known.lost_versions),
            "changes": [vars(change) for change in self.changes],
        }


def look(settings: Settings, break_id: int, projection: BuildProjection) -> Shown:
    """Return what the stores hold of a break's aggregate; InputError when the break has no aggregate or has ended."""
    item = ledger.find_break(settings.control_dsn, break_id)
    if item.aggregate_key is None or item.aggregate_key.count("/") < 2:
        raise InputError(f"Break {break_id} is of no single order, payment or the like: there is nothing to decide.")
    if item.state in ENDED:
        raise InputError(f"Break {break_id} has ended ({item.state}).")
    # Gathered like a break of its OLTP tables, because evidence from views and log is not needed.
    asked = replace(item, pair=f"oltp_lake.{item.aggregate_key.split('/', 2)[1]}", entity="")
    known = gather(settings, [asked], projection)[item.pod].aggregates.get(item.aggregate_key)
    if known is None:
        raise InputError(NO_EVENT_TO_PUT_BACK.format(id=break_id, key=item.aggregate_key))
    return Shown(item=item, key=item.aggregate_key, known=known)


def approve(settings: Settings, shown: Shown, *, by: str, reason: str, clock: Clock = utc_now) -> list[int]:
    """Record that a person approves OLTP's rows as they were shown; return the breaks that are open again.

    Raises InputError or ConflictError when no event can be written for the aggregate.
    """
    _check_approvable(shown)
    return _decide(settings, shown, DecisionKind.RESTATE, by, reason, clock)


def correct(settings: Settings, shown: Shown, *, by: str, reason: str, clock: Clock = utc_now) -> Corrected:
    """Restore the rows from the newest event, or delete rows without any event, as a person decided.

    When the newest event equals the rows but has amounts that finance does not believe, restore finance's amounts.
    Raises ConflictError when the rows have changed since they were shown, or when the database refuses the event's
    values.
    """
    known = shown.known
    said = known.believed if known.is_unexplained else known.said
    _check_home(shown)
    if known.is_unexplained and said is None:
        raise ConflictError(MOVED_SINCE.format(id=shown.item.break_id, key=shown.key))
    if (known.is_stated and not known.is_unexplained) or (known.root_version is None and known.said is None):
        sentence = NOTHING_TO_DECIDE if known.is_stated else NO_EVENT_TO_PUT_BACK
        raise ConflictError(sentence.format(id=shown.item.break_id, key=shown.key))
    if said is None and known.has_events:
        raise ConflictError(UNREADABLE.format(id=shown.item.break_id, key=shown.key))
    merchant_id, aggregate_type, aggregate_id = shown.key.split("/", 2)
    pod = settings.pod(known.home)
    command = PutBack(
        merchant_id=merchant_id,
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        said=None if said is None else msgspec.json.encode(said).decode(),
        shown_digest=known.digest or None,
        reason=f"Break {shown.item.break_id}, corrected by {_said(by)}: {_said(reason)}",
    )
    # Record the decision first, so that there is no correction without a recorded decision.
    _decide(settings, shown, DecisionKind.CORRECT, by, reason, clock)
    with build_command_pod(replace(pod, app_dsn=pod.owner_dsn), connections_max=1) as owner:
        return execute(owner, command, idempotency_key=f"correct/{shown.item.break_id}/{uuid7()}")


def _check_approvable(shown: Shown) -> None:
    known, aggregate_type = shown.known, shown.key.split("/", 2)[1]
    named = {"id": shown.item.break_id, "key": shown.key}
    happens_once = STATE_TYPES[aggregate_type] in HAPPENS_ONCE
    _check_home(shown)
    if known.root_version is None:
        raise ConflictError(NO_ROW.format(**named))
    if known.is_faulty:
        raise ConflictError(FAULTY.format(**named))
    if happens_once and known.has_events:
        raise ConflictError(ONCE.format(**named))
    if known.is_stated and not known.lost_versions and not known.is_left_out:
        raise ConflictError(NOTHING_TO_DECIDE.format(**named))


def _check_home(shown: Shown) -> None:
    if shown.known.is_homeless:
        raise ConflictError(f"Break {shown.item.break_id}: {HOMELESS.format(key=shown.key)}")


def _decide(settings: Settings, shown: Shown, decision: DecisionKind, by: str, reason: str, clock: Clock) -> list[int]:
    """Record the decision, and reopen the aggregate's escalated breaks; return their ids."""
    dsn, item = settings.control_dsn, shown.item
    # Of an aggregate that has moved, breaks of any of its pods may wait for the decision.
    waiting = ledger.breaks(dsn, states=[BreakState.ESCALATED], aggregate_keys=[shown.key], limit=None)
    ids = [one.break_id for one in waiting if one.pod in {item.pod, shown.known.home, *shown.known.sent}]
    with writing(dsn) as connection:
        write_decision(
            connection,
            at=clock(),
            pod=shown.known.home,
            aggregate_key=shown.key,
            decision=decision,
            digest=shown.known.digest,
            by=_said(by),
            reason=_said(reason),
            break_ids=sorted({item.break_id, *ids}),
            changes=[vars(change) for change in shown.changes],
        )
    if ids:
        ledger.reopen(dsn, by=by, reason=f"{decision.value}: {reason}", break_ids=ids, clock=clock)
    return ids


def _said(text: str) -> str:
    if not text.strip():
        raise InputError("Say who decides, and why: both are kept with the decision.")
    return text.strip()
