"""What a plan asks of the warehouse: one build for all breaks, and which aggregates are only compared.

Belongs here: merging what breaks need into one build, and where it begins. Does not belong here: which break needs one
(`repair/copies/warehouse.py`), the other actions of a plan (`repair/drafting.py`), building (`derived/builds.py`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from contracts.breaks import Break
from repair.values import Action, ActionKind, DamageKind, Evidence, PodEvidence


@dataclass(kw_only=True)
class Need:
    """One need, with the breaks that have it and the cuts that it concerns."""

    causes: set[int] = field(default_factory=set)
    cuts: set[int] = field(default_factory=set)
    aggregates: set[str] = field(default_factory=set)
    """Of a damaged event: the key of its aggregate, and of those under which the lake has it."""


class Builds:
    """Collects what breaks ask for; `actions` returns the build, if there is to be one."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._needs: defaultdict[str, Need] = defaultdict(Need)
        self._is_full = False
        self._tables: set[str] = set()
        self._is_of_tables = True
        """Whether all that is to be built are `_tables`."""
        self._maybe_built: defaultdict[str, set[str]] = defaultdict(set)

    def has(self, pod: str) -> bool:
        """Return whether something of a pod is to be built."""
        return pod in self._needs

    def ask(self, item: Break, cuts: Mapping[str, int], table: str | None = None) -> None:
        """Ask for a build from `cuts` (by pod) on; a full build if there are none or that was tried.

        `table`: a build of this stored table is enough.
        """
        if table is None:
            self._is_of_tables = False
        else:
            self._tables.add(table)
        for pod, cut in (cuts or {item.pod: 1}).items():
            self._needs[pod].causes.add(item.break_id)
            self._needs[pod].cuts.add(cut)
        self._is_full = self._is_full or not cuts or item.repairs > 1

    def ask_for_all(self, pod: str, causes: Collection[int], cuts: Collection[int]) -> None:
        """Ask for a build of everything from the lowest of these cuts on."""
        self._is_of_tables = False
        self._needs[pod].causes.update(causes)
        self._needs[pod].cuts.update(cuts)

    def ask_for_sum(self, item: Break) -> None:
        """Ask for a build of everything because of a sum whose rows are not known."""
        known = self._needs.get(item.pod)
        self.ask_for_all(item.pod, {item.break_id}, () if known is not None and known.cuts else {1})
        self._is_full = self._is_full or item.repairs > 1

    def ask_for_damage(self, damaged: Iterable[tuple[str, DamageKind, Need]]) -> None:
        """Ask for what marts need that may have been built from damaged events (pod, kind, need of each).

        Later builds are incremental and do not read them again. Most marts were built before the damage and are right.
        So it is enough to compare what the warehouse stores of the aggregates, where a comparison can tell. It cannot
        for an event that was never sent, where finance leaves an aggregate out, while a build is reading the event, and
        where the lake has it back only later. Duplicates are left out, because the warehouse takes every event once.
        """
        for pod, kind, need in damaged:
            known = self._evidence[pod]
            if kind is DamageKind.DUPLICATE or min(need.cuts) > known.built_cut:
                continue
            if kind is DamageKind.EXTRA or _is_to_build(need, known):
                self.ask_for_all(pod, need.causes, need.cuts)
            else:
                self._may_be_built(pod, need.aggregates)

    def _may_be_built(self, pod: str, keys: Collection[str]) -> None:
        """Ask to compare what the warehouse stores of these aggregates; of one that has moved, in every pod."""
        for key in keys:
            known = self._evidence[pod].aggregates.get(key)
            for place in self._evidence if known is None or known.sent else (pod,):
                self._maybe_built[place].add(key)

    def maybe_built(self) -> dict[str, frozenset[str]]:
        """Return pod -> the aggregates whose stored rows are to be compared."""
        return {pod: frozenset(keys) for pod, keys in sorted(self._maybe_built.items())}

    def actions(self) -> Iterator[Action]:
        """Yield the build, if something asked for one."""
        if not self._needs:
            return
        since: Mapping[str, int] = {pod: min(need.cuts) - 1 for pod, need in sorted(self._needs.items())}
        yield Action(
            kind=ActionKind.BUILD,
            store="warehouse",
            pod=",".join(sorted(self._needs)),
            keys=(),
            causes=causes_of(self._needs.values()),
            why="rows of the marts are not what operations say",
            since={} if self._is_full else since,
            is_full=self._is_full,
            tables=() if self._is_full or not self._is_of_tables else tuple(sorted(self._tables)),
        )


def _is_to_build(need: Need, known: PodEvidence) -> bool:
    """Return whether a comparison of the aggregate's stored rows could not tell that it was built from a damage."""
    is_read_now = known.begun_after_cut is not None and min(need.cuts) > known.begun_after_cut
    # Behind a position that is reset, the consumer applies the events again, after the comparison.
    is_applied_later = known.lake_reset_cut is not None
    is_left_out = not need.aggregates.isdisjoint(known.left_out)
    return is_read_now or is_applied_later or is_left_out


def causes_of(needs: Iterable[Need]) -> tuple[int, ...]:
    """Return the ids of the breaks that have these needs, each once, in order."""
    return tuple(sorted({cause for need in needs for cause in need.causes}))
