"""The rotating sweep: which part of all keys a run compares, and which parts were compared when.

Every run compares what changed, and a part of the rest: the keys that were compared longest ago. The size of the part
grows with the time since the last run, so after a missed run the next part is larger. All parts together always hold
every key. Belongs here: that arithmetic, on values. Does not belong here: the table (`reconcile/coverage.py`) or
reading anything (`reconcile/scoping.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.scope import KeyRange, Scope
from contracts.verdicts import PairResult

PACE = 0.8
"""A rotation takes this share of SWEEP_SECONDS_MAX; the rest is reserve for late runs."""
SHARE_MIN = 1 / 256
"""A run sweeps at least this share of the keys, so that there are not too many small parts."""
SUSPECTS_MAX = 20_000
"""With unended breaks of more aggregates than this, a run compares everything."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A range of keys, with the cut and time of the newest comparison of the whole range."""

    keys: KeyRange
    cut: int
    compared_at: datetime


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Which keys of a pair in a pod were compared when."""

    pair: str
    pod: str
    cut: int
    """Every change up to this cut was compared after the change."""
    parts: tuple[Part, ...]
    """Parts in the order of their keys; together they hold every key."""

    @property
    def oldest(self) -> Part:
        """The part that was compared longest ago. Every key was compared at least once since then."""
        return min(self.parts, key=lambda part: part.compared_at)

    @property
    def newest_at(self) -> datetime:
        """When the newest part was compared."""
        return max(part.compared_at for part in self.parts)

    @property
    def lowest_cut(self) -> int:
        """The lowest cut of a part: every key was compared at least once at this cut or a later one."""
        return min(part.cut for part in self.parts)

    def is_behind(self, now: datetime) -> bool:
        """Return whether a part was not compared for longer than SWEEP_SECONDS_MAX."""
        return (now - self.oldest.compared_at).total_seconds() > SWEEP_SECONDS_MAX


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What an incremental run must compare in one pod."""

    since_cut: int
    """Compare everything that changed after this cut."""
    parts: tuple[KeyRange, ...]
    """Ranges of aggregate ids; the one that was compared longest ago is the first."""
    cut_parts: tuple[KeyRange, ...]
    """The same for the log: ranges of cuts."""
    share: float
    """The share of all keys that is swept, from 0 to 1."""
    has_changes: bool = True
    """Whether what changed is compared, too; what a run without it finds moves no coverage."""
    suspects: frozenset[str] = frozenset()
    """Aggregates with unended breaks; only another comparison can end these breaks."""
    whole_pairs: frozenset[str] = frozenset()
    """Pairs of the log that are compared completely, because they have unended breaks."""
    seen_cuts: tuple[tuple[int, int], ...] = ()
    """Ranges of cuts (after, through] that are compared because a witness named them."""


@dataclass(frozen=True, kw_only=True)
class SeenKeys:
    """What witnesses named in one pod: aggregates, and ranges of cuts (after, through] of the log."""

    ids: frozenset[str]
    cuts: tuple[tuple[int, int], ...] = ()


def covered(before: Coverage | None, result: PairResult) -> Coverage | None:
    """Return the coverage after a result that counts; None while there was no complete comparison.

    A comparison leaves out parked aggregates. While there are any, the coverage's `cut` does not advance, so that their
    changes are compared later.
    """
    scope, cut = result.scope, result.cut or 0
    through = min(cut, scope.through_cut) if scope else cut
    if result.late_keys:
        through = min(through, before.cut if before else 0)
    if scope is not None and not scope.has_changes:
        through = before.cut if before else 0
    if scope is None:
        whole = Part(keys=KeyRange(), cut=cut, compared_at=result.checked_at)
        return Coverage(pair=result.pair, pod=result.pod, cut=through, parts=(whole,))
    if before is None:
        return None
    parts = before.parts
    for keys in scope.ranges:
        parts = _overlaid(parts, Part(keys=keys, cut=cut, compared_at=result.checked_at))
    return replace(before, cut=through, parts=_joined(parts))


def _overlaid(parts: Sequence[Part], new: Part) -> tuple[Part, ...]:
    left_over = [piece for part in parts for piece in _without(part, new.keys)]
    return tuple(sorted([*left_over, new], key=lambda part: (part.keys.above is not None, part.keys.above or "")))


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts, where neighbours that were compared together are joined."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last and (last.cut, last.compared_at) == (part.cut, part.compared_at):
            found[-1] = replace(last, keys=KeyRange(above=last.keys.above, through=part.keys.through))
        else:
            found.append(part)
    return tuple(found)


def _without(part: Part, taken: KeyRange) -> list[Part]:
    """Return the pieces of a part that are below and above a range."""
    above, through = part.keys.above, part.keys.through
    pieces = []
    if taken.above is not None and (above is None or above < taken.above):
        end = taken.above if through is None else min(through, taken.above)
        pieces.append(replace(part, keys=KeyRange(above=above, through=end)))
    if taken.through is not None and (through is None or through > taken.through):
        begin = taken.through if above is None else max(above, taken.through)
        pieces.append(replace(part, keys=KeyRange(above=begin, through=through)))
    return pieces


def planned(
    coverages: Collection[Coverage | None],
    suspects: Mapping[str, Collection[str | None]],
    cut_pairs: Collection[str],
    now: datetime,
) -> SweepPlan | None:
    """Return what a run must compare in one pod; None: everything.

    `coverages` are the coverages of all pairs that can be compared incrementally. `suspects` maps a pair to the
    aggregate ids of its unended breaks, None for a break without aggregate. `cut_pairs` are the pairs whose parts are
    ranges of cuts.
    """
    known = [one for one in coverages if one is not None]
    ids = {one for pair, found in suspects.items() if pair not in cut_pairs for one in found}
    if not known or len(known) < len(coverages) or None in ids or len(ids) > SUSPECTS_MAX:
        return None
    elapsed = max((now - one.newest_at).total_seconds() for one in known)
    share = max(elapsed / (PACE * SWEEP_SECONDS_MAX), SHARE_MIN)
    if share >= 1:
        return None
    return SweepPlan(
        since_cut=min(one.cut for one in known),
        parts=_by_age([one for one in known if one.pair not in cut_pairs]),
        cut_parts=_by_age([one for one in known if one.pair in cut_pairs]),
        share=share,
        suspects=frozenset(one for one in ids if one is not None),
        whole_pairs=frozenset(pair for pair in cut_pairs if suspects.get(pair)),
    )


def narrowed(plan: SweepPlan, seen: SeenKeys) -> SweepPlan:
    """Return the plan of a run that looks at what was seen and at what has breaks, and at nothing besides.

    What changed meanwhile is left to the rounds, so that the run need not wait until a copy has that.
    """
    suspects = plan.suspects | seen.ids
    return replace(plan, parts=(), cut_parts=(), share=0.0, has_changes=False, suspects=suspects, seen_cuts=seen.cuts)


def _by_age(coverages: Sequence[Coverage]) -> tuple[KeyRange, ...]:
    parts = sorted((part for one in coverages for part in one.parts), key=lambda part: part.compared_at)
    return tuple(dict.fromkeys(part.keys for part in parts))


def taken(
    parts: Sequence[KeyRange], number: int, size: Callable[[KeyRange], int], end: Callable[[KeyRange, int], str | None]
) -> tuple[KeyRange, ...]:
    """Return the first parts, which together hold `number` keys; the last one is shortened.

    `size` returns the number of keys in a range. `end` returns the key of a range at which the given number of keys is
    reached, None when the range has fewer.
    """
    found = []
    for part in parts:
        through = end(part, number)
        if through is not None:
            found.append(KeyRange(above=part.above, through=through))
            break
        found.append(part)
        number -= size(part)
        if number <= 0:
            break
    return tuple(found)


def cut_text(cut: int) -> str:
    """Return a cut as text of twenty digits, so that texts sort like the numbers."""
    return f"{cut:020d}"


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges of cuts (after, through] without overlaps, in order, without empty ones."""
    found: list[tuple[int, int]] = []
    for after, through in sorted(ranges):
        if through <= after:
            continue
        if found and after <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], through))
        else:
            found.append((after, through))
    return found


def scope_of(plan: SweepPlan, swept: tuple[KeyRange, ...], ids: Collection[str], through_cut: int) -> Scope:
    """Return the scope of a run with this plan; `ids` are the changed aggregates."""
    everything = frozenset(ids) | plan.suspects
    return Scope(
        since_cut=plan.since_cut,
        through_cut=through_cut,
        has_changes=plan.has_changes,
        ranges=swept,
        ids=everything,
        id_count=len(everything),
    )
