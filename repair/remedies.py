"""What an aggregate needs before its copies can be repaired: events in the lake, a restatement, or a person.

Belongs here: that decision, from evidence. Does not belong here: which break needs it (`repair/plan.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.events.changes import FieldChange
from contracts.money import amount_name, in_major_units
from contracts.text import counted
from repair.values import AggregateEvidence, DamageKind, EventDamage, PodEvidence

FAULTY = "OLTP itself is at fault in {key} (see its oltp_identities break): stating it again would spread the fault."
HOMELESS = (
    "The merchant of {key} has rows in several pods and lives in none of them, so nobody can say which row is right. "
    "Put it into oltp.residents of the pod where it lives; then open the break again."
)
GONE = (
    "OLTP has no row of {key}, of which there are events: a row was deleted past the commands. What the copies hold is "
    "the only evidence of it left."
)
UNIQUE = (
    "The lake has event {event} of {key}, which the outbox of {pod} no longer has and whose version no other event of "
    "that pod takes: the outbox may have lost it, so it is not removed."
)
DISPUTED_BEGINS = "The outbox says otherwise of event "
DISPUTED = (
    DISPUTED_BEGINS + "{event} of {key} than the log and the lake, which agree: its row was changed after "
    "it was published, or both of them were. Put the row right, or, if it is right, publish it again "
    "(docs/runbooks/log.md); then open the break again."
)
UNEXPLAINED_BEGINS = "OLTP holds other money of "
UNEXPLAINED = (
    UNEXPLAINED_BEGINS + "{key} than its newest event says, and no event explains the change: {changes}. It is "
    "stated, or put back, only when a person says so: `tieout breaks approve-restatement` or `tieout breaks correct` "
    "(docs/runbooks/breaks.md)."
)
UNTOLD = (
    "OLTP has a row of {key}, and no store has any event of it: no command wrote it. It holds {changes}. It is "
    "stated, or taken out, only when a person says so: `tieout breaks approve-restatement` or `tieout breaks correct` "
    "(docs/runbooks/breaks.md)."
)
SENT = " Its merchant has moved and lives in {home} now; of its events {sent}."
"""Follows each refusal of an aggregate that has moved."""
CHANGES_TOLD = 8
"""Largest number of fields in a sentence with both values; the aggregate's own fields, e.g. totals, come first."""
LOST = (
    "Version {versions} of {key}: no store has the event any more. Its present state is right in copies without "
    "history; finance leaves it out, with its order, from the gap on, until a person has it stated again: `tieout "
    "breaks approve-restatement`. Once it was, accept what is left: the count of its events stays short of its version "
    "(docs/runbooks/breaks.md)."
)
UNEXPLAINED_EVENT = (
    "An event of {key}, or of its order, has other amounts than the one before, and does not say so: they were changed "
    "past the commands, and an ordinary command has stated them since. Finance leaves it out. It is stated again only "
    "when a person says so: `tieout breaks approve-restatement` (docs/runbooks/breaks.md)."
)
LEFT_OUT = (
    "Finance leaves {key} out, because of {why}. It is taken in once that is settled, and not built before "
    "(docs/runbooks/breaks.md)."
)


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What one aggregate needs."""

    damages: tuple[EventDamage, ...] = ()
    """Events that a repair must restore, replace or remove in the lake."""
    restated_key: str | None = None
    """The aggregate's key, when a new event must state it; None: no event is needed."""
    restated_in: str = ""
    """The pod whose row that event states."""
    refusal: str = ""
    """Why code must not repair it; then the other fields do not matter. Empty: code may."""

    @property
    def is_restated(self) -> bool:
        """Whether a new event must state it."""
        return self.restated_key is not None

    @property
    def is_needed(self) -> bool:
        """Whether the aggregate needs anything."""
        return bool(self.damages or self.restated_key or self.refusal)


NOTHING = Remedy()


def remedy_of(pod: PodEvidence, key: str | None) -> Remedy:
    """Return what the aggregate needs; NOTHING when `key` is None, unknown, or the aggregate is in order."""
    known = None if key is None else pod.aggregates.get(key)
    if key is None or known is None:
        return NOTHING
    damages = tuple(damage for damage in (*pod.damages, *pod.damages_elsewhere) if damage.aggregate_key == key)
    if refusal := _refusal(known, key, damages):
        return Remedy(refusal=refusal + _sent(known))
    # Repairs of events in the lake come first; the next comparison shows what is left.
    is_again = (bool(known.lost_versions) or known.is_left_out) and known.is_stated and known.is_approved
    is_restated = (_is_unstated(known) and not _is_for_a_person(known)) or is_again
    return Remedy(damages=damages, restated_key=key if is_restated else None, restated_in=known.home)


def remedy_in_finance(pod: PodEvidence, key: str | None) -> Remedy:
    """Return what the aggregate needs before its rows in the marts are right; if left out by finance: a person."""
    remedy = remedy_of(pod, key)
    why = None if key is None else pod.left_out.get(key)
    if key is None or why is None or remedy.is_needed:
        return remedy
    known = pod.aggregates.get(key)
    return Remedy(refusal=LEFT_OUT.format(key=key, why=why) + ("" if known is None else _sent(known)))


def told(changes: Sequence[FieldChange], currencies: tuple[str | None, str | None]) -> str:
    """Return the first `CHANGES_TOLD` changes in words: each field with the event's value and the row's value."""
    texts = [
        f"{amount_name(change.field)} {valued(change, change.before, currencies[0])} by the event, "
        f"{valued(change, change.after, currencies[1])} in the row"
        for change in changes[:CHANGES_TOLD]
    ]
    more = len(changes) - len(texts)
    return "; ".join(texts) + (f"; and {counted(more, 'more field')}" if more > 0 else "")


def valued(change: FieldChange, value: object, currency: str | None) -> str:
    """Return a field's value as text for people; amounts in major units of the currency."""
    if value is None:
        return "nothing"
    return in_major_units(change.field, value, currency) or f"{value}"


def disputed_event(pod: PodEvidence) -> str | None:
    """Return an event that differs between outbox and log, so that a person must decide; None: there is none."""
    for damage in pod.damages:
        known = pod.aggregates.get(damage.aggregate_key)
        if damage.is_disputed and (known is None or not _is_confirmed(known, damage)):
            return damage.event_id
    return pod.disputed_event


def _is_confirmed(known: AggregateEvidence, damage: EventDamage) -> bool:
    """Return whether the aggregate's row confirms the outbox's event; a row can confirm only the newest version."""
    return known.is_stated and damage.version == known.root_version


def _sent(known: AggregateEvidence) -> str:
    """Return which pod has sent which versions of an aggregate that has moved, as a sentence; else nothing."""
    if not known.sent:
        return ""
    spans = [
        f"{pod} has sent version {first}" if first == last else f"{pod} has sent versions {first} to {last}"
        for pod, (first, last) in known.sent.items()
    ]
    return SENT.format(home=known.home, sent=" and ".join(spans))


def _is_unstated(known: AggregateEvidence) -> bool:
    return known.root_version is not None and not known.is_stated


def _is_for_a_person(known: AggregateEvidence) -> bool:
    """Return whether an event for it would state money that no event explains and no person has approved."""
    is_of_money = any(change.is_money for change in known.changes) or not known.has_events
    return _is_unstated(known) and is_of_money and not known.is_approved


def _refusal(known: AggregateEvidence, key: str, damages: tuple[EventDamage, ...]) -> str:
    if known.is_homeless:
        return HOMELESS.format(key=key)
    if known.is_faulty:
        return FAULTY.format(key=key)
    if known.root_version is None and known.has_events:
        return GONE.format(key=key)
    for damage in damages:
        if damage.kind is DamageKind.EXTRA and damage.event_id not in known.clashing:
            return UNIQUE.format(event=damage.event_id, key=key, pod=damage.pod)
        if damage.is_disputed and not _is_confirmed(known, damage):
            return DISPUTED.format(event=damage.event_id, key=key)
    if _is_for_a_person(known) and not damages:
        sentence = UNEXPLAINED if known.has_events else UNTOLD
        money = [change for change in known.changes if change.is_money]
        return sentence.format(key=key, changes=told(money, known.currencies))
    if known.lost_versions and known.is_stated and not damages and not known.is_approved:
        return LOST.format(versions=", ".join(map(str, known.lost_versions)), key=key)
    if known.is_unexplained and not damages and not known.is_approved:
        return UNEXPLAINED_EVENT.format(key=key)
    return ""
