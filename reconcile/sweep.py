"""The rotating sweep: which part of all keys a run looks at, and what is known to have been looked at.

What changed is compared at every run, the rest in turn: every run takes the part that was compared longest ago, as
large a part as time has passed, so that a run that was missed makes the next one take more. The ranges of all parts
together always hold every key. Belongs here: that arithmetic, as values. Does not belong here: the table
(`reconcile/coverage.py`) or reading anything (`reconcile/scoping.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.scope import KeyRange, Scope
from contracts.verdicts import PairResult

PACE = 0.8
"""A rotation takes this share of the stated time: the rest is for runs that come late."""
SHARE_MIN = 1 / 256
"""However soon a run follows another, it sweeps so much: otherwise the parts would become many."""
SUSPECTS_MAX = 20_000
"""With more unended breaks than this a run looks at everything."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A range of keys and the newest comparison that looked at all of it."""

    keys: KeyRange
    cut: int
    compared_at: datetime


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What of a pair in a pod was compared when."""

    pair: str
    pod: str
    cut: int
    """Whatever changed up to this cut was compared since."""
    parts: tuple[Part, ...]
    """In the order of their keys; together every key."""

    @property
    def oldest(self) -> Part:
        """The part that was compared longest ago: everything was compared at least once since then."""
        return min(self.parts, key=lambda part: part.compared_at)

    @property
    def newest_at(self) -> datetime:
        """When the last part was compared."""
        return max(part.compared_at for part in self.parts)

    @property
    def lowest_cut(self) -> int:
        """The cut at or after which everything was compared at least once."""
        return min(part.cut for part in self.parts)

    def is_behind(self, now: datetime) -> bool:
        """Return whether a part was not looked at for longer than the contract states."""
        return (now - self.oldest.compared_at).total_seconds() > SWEEP_SECONDS_MAX


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What an incremental run is to look at in one pod."""

    since_cut: int
    """Everything that changed after this cut."""
    parts: tuple[KeyRange, ...]
    """Of the aggregates, that which was compared longest ago first."""
    cut_parts: tuple[KeyRange, ...]
    """Of the log, the same."""
    share: float
    """How much of all keys is swept."""
    suspects: frozenset[str] = frozenset()
    """Aggregates with unended breaks: only looking again can end them."""
    whole_pairs: frozenset[str] = frozenset()
    """Pairs of the log that are looked at completely, because they have unended breaks."""


def covered(before: Coverage | None, result: PairResult) -> Coverage | None:
    """Return what is known after a result that counts; None if everything was never looked at.

    Aggregates that a copy had parked were left out: until there are none, what changed is not taken to be followed
    beyond the comparison before the first of them.
    """
    scope, cut = result.scope, result.cut or 0
    through = min(cut, scope.through_cut) if scope else cut
    if result.late_keys:
        through = min(through, before.cut if before else 0)
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
    """Return the parts, neighbours that were compared together as one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if last and (last.cut, last.compared_at) == (part.cut, part.compared_at):
            found[-1] = replace(last, keys=KeyRange(above=last.keys.above, through=part.keys.through))
        else:
            found.append(part)
    return tuple(found)


def _without(part: Part, taken: KeyRange) -> list[Part]:
    """Return what of a part is below and what is above a range."""
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
    """Return what a run is to look at in one pod; None: everything.

    `coverages` are those of all pairs that can be compared in part; `suspects` are the aggregates (ids) of unended
    breaks by pair, None for a break that names none; `cut_pairs` are the pairs whose parts are ranges of cuts.
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


def _by_age(coverages: Sequence[Coverage]) -> tuple[KeyRange, ...]:
    parts = sorted((part for one in coverages for part in one.parts), key=lambda part: part.compared_at)
    return tuple(dict.fromkeys(part.keys for part in parts))


def taken(
    parts: Sequence[KeyRange], number: int, size: Callable[[KeyRange], int], end: Callable[[KeyRange, int], str | None]
) -> tuple[KeyRange, ...]:
    """Return the first of the parts that hold so many keys together, the last one cut short.

    `size` says how many keys a range holds, `end` which key of it has so many keys up to itself; None: it has fewer.
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
    """Return a cut as text whose order is that of the numbers."""
    return f"{cut:020d}"


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges of cuts (after, through] without overlaps, in order; empty ones left out."""
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
    """Return the scope of a run that follows a plan, once it is known what changed."""
    everything = frozenset(ids) | plan.suspects
    return Scope(
        since_cut=plan.since_cut,
        through_cut=through_cut,
        ranges=swept,
        ids=everything,
        id_count=len(everything),
    )
