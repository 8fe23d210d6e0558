"""The texts of alerts: one text per incident, with what a person needs to begin, without confidential values.

A text names keys, and signed differences of amounts and counts. It contains no other value of a row (names, addresses),
and no address or password of a server.

Belongs here: texts of incidents, pure. Does not belong here: the digest for finance (`digest.py`), sending.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.breaks import Break, BreakGroup, BreakState
from contracts.money import amount_name, in_major_units
from contracts.ownership import Copy
from contracts.text import counted, visible
from contracts.verdicts import ColumnDifference, DifferenceClass
from repair.alerts.deciding import AlertKind, Due, unsettled_breaks

KEYS_SHOWN = 10
TOGETHER_SHOWN = 40
STILL_HOLDS = "Still holds for users:"
HOLDS_AGAIN = "Holds again for users:"
USERS = (STILL_HOLDS, HOLDS_AGAIN)
GENERAL_RUNBOOK = "runbooks/breaks.md"
KINDS = {
    DifferenceClass.MISSING: "missing",
    DifferenceClass.EXTRA: "too many",
    DifferenceClass.DUPLICATE: "there more than once",
    DifferenceClass.STALE: "of an old version",
    DifferenceClass.CURRENCY: "in another currency",
    DifferenceClass.AMOUNT: "with another amount",
    DifferenceClass.TAX: "with other tax",
    DifferenceClass.DIFFERENT: "different",
    DifferenceClass.IDENTITY: "not adding up",
    DifferenceClass.PARKED: "parked for too long",
}


@dataclass(frozen=True, kw_only=True)
class Concern:
    """What a comparison compares, in words for people."""

    pair: str
    left: str
    right: str
    copy: Copy | None
    """The copy that differs; None when both sides are the owner's own figures."""


def incident_text(due: Due, concern: Concern, breaks: Sequence[Break]) -> tuple[str, str]:
    """Return title and text of a message about an incident; `breaks` are some or all of its breaks."""
    group = due.group
    if due.kind is AlertKind.RESOLVED:
        return _title("Settled", group, group.keys), _resolved_body(group, concern, breaks)
    label = "Needs a person" if due.kind is AlertKind.ESCALATED else "Found"
    return _title(label, group, unsettled_breaks(group)), _call_body(due.kind, group, concern, breaks)


def _title(label: str, group: BreakGroup, keys: int) -> str:
    return f"[Tieout] {label}: {counted(keys, 'key')} {KINDS[group.kind]}, {group.pair} in {group.pod}"


def _call_body(kind: AlertKind, group: BreakGroup, concern: Concern, breaks: Sequence[Break]) -> str:
    waiting = [found for found in breaks if found.state in (BreakState.OPEN, BreakState.REPAIRING)]
    escalated = [found for found in breaks if found.state is BreakState.ESCALATED]
    shown = escalated if kind is AlertKind.ESCALATED else [*waiting, *escalated]
    lines = [
        f"{_scope(group, concern)}: {concern.right} against {concern.left}.",
        f"Since {_since(group)}. Incident {group.group_id}, {_counts(group)}.",
        f"Looked after by: {_owners(breaks)}.",
        "",
        *_reasons(escalated),
        *_keys(shown, group),
        "",
        f"{STILL_HOLDS} {_still_holds(concern)}",
        _what_happens(kind),
        "",
        *_commands(shown, group),
        _runbook(concern),
    ]
    return "\n".join(lines)


def together_text(kind: AlertKind, messages: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return one title and text for many messages of a kind, each given as (title, text)."""
    label = {AlertKind.RESOLVED: "Settled", AlertKind.ESCALATED: "Needs a person"}.get(kind, "Found")
    titles = [title.removeprefix(f"[Tieout] {label}: ") for title, _ in messages]
    others = len(titles) - TOGETHER_SHOWN
    kept = dict.fromkeys(
        line for _, body in messages for line in body.splitlines() if line.startswith((*USERS, "Runbook: "))
    )
    lines = [
        f"{counted(len(titles), 'incident')} at once, so they come as one message; each is told of once.",
        "",
        *(f"- {title}" for title in titles[:TOGETHER_SHOWN]),
        *more(others),
        "",
        *kept,
        "Look: tieout breaks list",
    ]
    return f"[Tieout] {label}: {counted(len(titles), 'incident')}", "\n".join(lines)


def _resolved_body(group: BreakGroup, concern: Concern, breaks: Sequence[Break]) -> str:
    accepted = [found for found in breaks if found.state is BreakState.ACCEPTED]
    lines = [
        f"Incident {group.group_id} of {group.pair} in {group.pod} is settled: {_counts(group)}.",
        f"It had {counted(group.keys, 'key')} {KINDS[group.kind]}, since {_since(group)}.",
    ]
    cuts = [found.last_seen_cut for found in breaks if found.last_seen_cut is not None]
    if cuts:
        lines.append(f"Last seen different at cut {max(cuts)}; comparisons at later cuts found nothing.")
    lines += [f"Accepted: {_key(found)}: {visible(found.reason)}" for found in accepted[:KEYS_SHOWN]]
    lines += ["", _holds_again(concern, is_accepted=bool(accepted))]
    lines += [f"Look: tieout breaks list --group {group.group_id} --all", _runbook(concern)]
    return "\n".join(lines)


def _holds_again(concern: Concern, *, is_accepted: bool) -> str:
    if is_accepted:
        return f"{STILL_HOLDS} what a person has accepted stays different; otherwise everything."
    return f"{HOLDS_AGAIN} everything that is promised of {concern.right}."


def _runbook(concern: Concern) -> str:
    return f"Runbook: docs/{concern.copy.runbook if concern.copy else GENERAL_RUNBOOK}"


def _since(group: BreakGroup) -> str:
    at = f"{group.opened_at:%Y-%m-%d %H:%M:%S} UTC"
    return at if group.opened_cut is None else f"{at}, cut {group.opened_cut}"


def _counts(group: BreakGroup) -> str:
    return ", ".join(f"{group.counts[state]:,} {state}" for state in BreakState if group.counts.get(state))


def more(others: int) -> list[str]:
    """Return the last line of a list from which `others` entries are left out; no line for 0."""
    return [f"- and {others:,} more"] if others > 0 else []


def _owners(breaks: Sequence[Break]) -> str:
    return ", ".join(sorted({found.owner for found in breaks})) or "nobody yet"


def _reasons(escalated: Sequence[Break]) -> list[str]:
    reasons = list(dict.fromkeys(found.reason for found in escalated if found.reason))
    return [f"Why: {visible(reason)}" for reason in reasons[:3]]


def _keys(breaks: Sequence[Break], group: BreakGroup) -> list[str]:
    lines = [f"- {_key(found)}{_differences(found)}" for found in breaks[:KEYS_SHOWN]]
    others = unsettled_breaks(group) - len(lines)
    return [*lines, *more(others)]


def _key(found: Break) -> str:
    # Escaped, because a line break in an id would add lines to the message.
    return f"{found.entity} {' / '.join('-' if part is None else visible(part) for part in found.key)}"


def _differences(found: Break) -> str:
    """Return the signed differences of a break's amounts and counts; other columns only by name."""
    numbers = [_signed(item, found.currency) for item in found.columns if item.difference]
    others = [item.column for item in found.columns if item.difference is None]
    parts = [*numbers, *([f"also {', '.join(others)}"] if others else [])]
    return f": {'; '.join(parts)}" if parts else ""


def _signed(item: ColumnDifference, currency: str | None) -> str:
    number = item.difference or 0
    sign = "+" if number > 0 else "-"
    amount = in_major_units(item.column, abs(number), currency)
    if amount is not None:
        return f"{amount_name(item.column)} {sign}{amount}"
    return f"{item.column} {sign}{abs(number):,}"


def _scope(group: BreakGroup, concern: Concern) -> str:
    """Return how many rows of which copy differ, and how; nothing else is known to be wrong."""
    number = unsettled_breaks(group)
    differing = counted(number, "row") if concern.copy else counted(number, "key")
    of = f"the {_named(concern.copy)}" if concern.copy else "the owner's own figures"
    return f"{differing} of {of} {'differs' if number == 1 else 'differ'} in {group.pod} ({KINDS[group.kind]})"


def _named(copy: Copy) -> str:
    return copy.name.replace("_", " ")


def _still_holds(concern: Concern) -> str:
    if concern.copy is None:
        return "everything that is served; the owner's own figures do not agree, and only people may change them."
    return f"everything but these rows of the {_named(concern.copy)}. No command reads it: selling and paying go on."


def _what_happens(kind: AlertKind) -> str:
    if kind is AlertKind.ESCALATED:
        return "Nothing happens by itself any more: repair it by hand, or accept it with a reason."
    return "A repair begins by itself; a message says when it is settled, or when it needs a person."


def _commands(breaks: Sequence[Break], group: BreakGroup) -> list[str]:
    shown = breaks[0].break_id if breaks else None
    lines = [f"Look: tieout breaks list --group {group.group_id}"]
    if shown is not None:
        lines.append(f"      tieout breaks show {shown}")
        order_id = _order_id(breaks[0])
        if order_id is not None:
            lines.append(f"      tieout explain {shlex.quote(visible(order_id))}")
    return lines


def _order_id(found: Break) -> str | None:
    merchant_id, _, rest = (found.aggregate_key or "").partition("/")
    aggregate_type, _, aggregate_id = rest.partition("/")
    return aggregate_id if merchant_id and aggregate_type == "order" else None
