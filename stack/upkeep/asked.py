"""What sightings ask for: which pairs to compare in which pod, and which aggregates.

Belongs here: that decision, on values. Does not belong here: comparing, and when (`stack/upkeep/reconciler.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.events import STATE_TYPES
from contracts.ownership import LAKE, LOG, OWNER_FAMILIES, copy_named, family_of
from contracts.sightings import KeptSighting, SightingKind
from reconcile.changed_rows import ID_COLUMNS, is_of_outbox
from reconcile.entities import tables_of
from reconcile.pair import Stage
from reconcile.pairs import PAIRS

STORED_TABLES = frozenset(ID_COLUMNS)
STANDING = frozenset(pair.name for pair in PAIRS if pair.stage is Stage.OWN)
"""The pairs that need no cut of the pod: they are compared at the copy's own positions."""
EVERY_CUT = (0, 10**18)
"""More cuts than a pod ever has."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the sightings of one pod ask for: pairs, and the aggregates to look at; `ids` None: all."""

    pod: str
    pairs: tuple[str, ...]
    ids: frozenset[str] | None
    sighting_ids: tuple[int, ...]
    cuts: tuple[tuple[int, int], ...] = ()
    """Ranges of cuts (after, through] in which the log is looked at besides, with `ids`."""


def pairs_for(sighting: KeptSighting) -> tuple[str, ...]:
    """Return the pairs that find what a sighting may have changed: those of its copy, or of what OLTP is compared with.

    A write to OLTP shows in OLTP's own identities, in its outbox against the log, and against the lake. A write to a
    table of an aggregate's state shows only in the pairs that read this table, an event of the lake in those of its
    aggregate's type and in what passed through the log, and a row that the warehouse stores in the pair of its table.
    """
    own = (*OWNER_FAMILIES, *LOG.found_by, *LAKE.found_by)
    families = own if sighting.copy is None else copy_named(sighting.copy).found_by
    asked = [pair for pair in PAIRS if family_of(pair.name) in families]
    if sighting.copy is None and any(sighting.place in tables_of(kind) for kind in STATE_TYPES):
        asked = [pair for pair in asked if sighting.place in pair.oltp_tables]
    elif sighting.kind is SightingKind.UNANNOUNCED and sighting.place in STORED_TABLES:
        asked = [pair for pair in asked if sighting.place in pair.stored_tables]
    elif sighting.copy == LAKE.name and sighting.aggregate_type is not None:
        asked = [pair for pair in asked if not pair.aggregate_types or sighting.aggregate_type in pair.aggregate_types]
    return tuple(pair.name for pair in asked)


def targets(sightings: Sequence[KeptSighting], pods: Sequence[str]) -> list[Target]:
    """Return what to compare for sightings: first what names its aggregates, at most two targets per pod; then one per
    pod and copy in which all must be compared, those of few pairs first.
    """
    found = []
    for pod in pods:
        mine = [one for one in sightings if one.pod in (pod, "")]
        keyed = [one for one in mine if one.aggregate_id is not None]
        rest = [one for one in mine if one.aggregate_id is None]
        copies = dict.fromkeys(one.copy for one in rest)
        alike = [*_by_wait(keyed), *([one for one in rest if one.copy == copy] for copy in copies)]
        found += [_target(pod, some) for some in alike if some]
    return sorted(found, key=lambda target: 0 if target.ids is not None else len(target.pairs))


def _by_wait(keyed: Sequence[KeptSighting]) -> tuple[list[KeptSighting], list[KeptSighting]]:
    """Return first the sightings whose pairs compare a copy where it stands, then those that wait for a new cut.

    So the former are found without that wait. Of an aggregate that is among the latter everything is compared in one
    run, OLTP and the lake first, because a copy is mended from the lake.
    """
    waiting = {one.aggregate_id for one in keyed if not set(pairs_for(one)) <= STANDING}
    return (
        [one for one in keyed if one.aggregate_id not in waiting],
        [one for one in keyed if one.aggregate_id in waiting],
    )


def _cuts_of(sighting: KeptSighting) -> tuple[int, int] | None:
    """Return in which cuts the log is to be compared; of an outbox row that nobody could place: in all."""
    return EVERY_CUT if is_of_outbox(sighting) else sighting.cuts


def _target(pod: str, sightings: Sequence[KeptSighting]) -> Target:
    named = {pair for one in sightings for pair in pairs_for(one)}
    ids = frozenset(one.aggregate_id for one in sightings if one.aggregate_id is not None)
    return Target(
        pod=pod,
        pairs=tuple(pair.name for pair in PAIRS if pair.name in named),
        ids=ids or None,
        cuts=tuple(sorted({cuts for one in sightings if (cuts := _cuts_of(one)) is not None})),
        sighting_ids=tuple(dict.fromkeys(one.sighting_id for one in sightings)),
    )
