"""Looks at the lake's events in every pod that has sent some of an aggregate whose merchant has moved.

Belongs here: which pods are looked at for which aggregates, and what is said of these over all of them. Does not belong
here: the events of one pod (`repair/evidence/lake_events.py`), where a merchant lives (`repair/evidence/residence.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import duckdb

from contracts.settings import Settings
from repair.evidence.lake_events import LakeFindings, look_at_lake
from repair.evidence.residence import Residence, residence_of
from repair.values import EventDamage


@dataclass(frozen=True, kw_only=True)
class Looks:
    """The lake's findings by pod."""

    residence: Residence
    keys: Mapping[str, frozenset[str]]
    """Pod -> the aggregates that it is asked about: those of its breaks and damages, and all that have moved."""
    found: Mapping[str, LakeFindings]

    @property
    def moved(self) -> frozenset[str]:
        """The aggregates whose merchants have moved."""
        return frozenset(key for keys in self.keys.values() for key in keys if self.residence.has_moved(key))

    def of(self, key: str, pod: str) -> dict[str, LakeFindings]:
        """Return pod -> findings, for the pods whose events of the aggregate count; only `pod` if it never moved."""
        return dict(self.found) if self.residence.has_moved(key) else {pod: self.found[pod]}

    def damages_elsewhere(self, pod: str) -> tuple[EventDamage, ...]:
        """Return the damages that aggregates which have moved have in other pods."""
        moved = self.moved
        return tuple(
            damage
            for other, found in sorted(self.found.items())
            for damage in found.damages
            if other != pod and damage.aggregate_key in moved
        )

    def events_elsewhere(self, pod: str) -> dict[str, tuple[str, int]]:
        """Return event id -> (pod, cut) of the events of other pods of aggregates that have moved."""
        moved = self.moved
        return {
            event.event_id: (other, event.cut)
            for other, found in self.found.items()
            for event in found.known
            if other != pod and event.aggregate_key in moved
        }


def look_at_pods(
    lake: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: Mapping[str, Collection[str]],
    cuts: Mapping[str, Collection[int]],
) -> Looks:
    """Return the lake's findings for these aggregates and cuts (by pod); of who has moved, from every pod."""
    asked = {pod: frozenset(of_pod) for pod, of_pod in keys.items()}
    while True:
        residence = residence_of(settings, asked)
        moved = frozenset(key for of_pod in asked.values() for key in of_pod if residence.has_moved(key))
        looked_at = {pod: of_pod | moved for pod, of_pod in asked.items()}
        if moved:
            looked_at |= {pod.pod: asked.get(pod.pod, frozenset()) | moved for pod in settings.pods}
        found = {
            pod: look_at_lake(lake, settings, settings.pod(pod), of_pod, cuts.get(pod, ()))
            for pod, of_pod in looked_at.items()
        }
        asked = {pod: of_pod | found[pod].damaged_keys for pod, of_pod in looked_at.items()}
        residence = residence_of(settings, asked)
        # A damaged event of one of the cuts may be of an aggregate that has moved, too: then the others look as well.
        if all(key in moved or not residence.has_moved(key) for of_pod in asked.values() for key in of_pod):
            return Looks(residence=residence, keys=asked, found=found)
