"""What an aggregate needs, before any copy of it can be mended: events given back to the lake, a restatement, a person.

Belongs here: that judgement, from evidence. Does not belong here: which break asks for it (`repair/plan.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from repair.values import AggregateEvidence, DamageKind, EventDamage, PodEvidence

FAULTY = "OLTP itself is at fault in {key} (see its oltp_identities break): stating it again would spread the fault."
GONE = (
    "OLTP has no row of {key}, of which there are events: a row was deleted past the commands. What the copies hold is "
    "the only evidence of it left."
)
UNIQUE = (
    "The lake has event {event} of {key}, which the outbox no longer has and whose version no other event takes: the "
    "outbox may have lost it, so it is not removed."
)
DISPUTED_BEGINS = "The outbox says otherwise of event "
DISPUTED = (
    DISPUTED_BEGINS + "{event} of {key} than the log and the lake, which agree: its row was changed after "
    "it was published, or both of them were. Put the row right, or, if it is right, publish it again "
    "(docs/runbooks/log.md); then open the break again."
)
LOST = "Version {versions} of {key}: no store has the event any more. Its present state is right in every copy."


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What one aggregate needs."""

    damages: tuple[EventDamage, ...] = ()
    """Events of which the lake must be given, or relieved of, something."""
    restated_key: str | None = None
    """The aggregate's key, when an event must state it anew."""
    refusal: str = ""
    """Why code must not touch it; then nothing else counts."""

    @property
    def is_restated(self) -> bool:
        """Whether an event must state it anew."""
        return self.restated_key is not None

    @property
    def is_needed(self) -> bool:
        """Whether anything is wrong with it."""
        return bool(self.damages or self.restated_key or self.refusal)


NOTHING = Remedy()


def remedy_of(pod: PodEvidence, key: str | None) -> Remedy:
    """Return what the aggregate needs; nothing where there is no aggregate, or nothing is wrong with it."""
    known = None if key is None else pod.aggregates.get(key)
    if key is None or known is None:
        return NOTHING
    damages = tuple(damage for damage in pod.damages if damage.aggregate_key == key)
    refusal = _refusal(known, key, damages)
    if refusal:
        return Remedy(refusal=refusal)
    return Remedy(damages=damages, restated_key=key if _is_unstated(known) else None)


def disputed_event(pod: PodEvidence) -> str | None:
    """Return an event of which outbox and log do not say the same, and of which people decide; None: there is none."""
    for damage in pod.damages:
        known = pod.aggregates.get(damage.aggregate_key)
        if damage.is_disputed and (known is None or not _is_confirmed(known, damage)):
            return damage.event_id
    return pod.disputed_event


def _is_confirmed(known: AggregateEvidence, damage: EventDamage) -> bool:
    """Return whether the aggregate's row says what the outbox says: a third witness, of the newest version only."""
    return known.is_stated and damage.version == known.root_version


def _is_unstated(known: AggregateEvidence) -> bool:
    return known.root_version is not None and not known.is_stated


def _refusal(known: AggregateEvidence, key: str, damages: tuple[EventDamage, ...]) -> str:
    if known.is_faulty:
        return FAULTY.format(key=key)
    if known.root_version is None and known.has_events:
        return GONE.format(key=key)
    for damage in damages:
        if damage.kind is DamageKind.EXTRA and damage.event_id not in known.clashing:
            return UNIQUE.format(event=damage.event_id, key=key)
        if damage.is_disputed and not _is_confirmed(known, damage):
            return DISPUTED.format(event=damage.event_id, key=key)
    if known.lost_versions and known.is_stated and not damages:
        return LOST.format(versions=", ".join(map(str, known.lost_versions)), key=key)
    return ""
