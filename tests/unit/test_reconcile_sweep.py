"""The sweep's arithmetic: every key is in exactly one part, and the part that was compared longest ago comes next."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from contracts.ownership import SWEEP_SECONDS_MAX
from contracts.scope import KeyRange, Scope, ScopeUnit
from contracts.verdicts import PairResult
from reconcile.results import result_of
from reconcile.sweep import (
    PACE,
    SHARE_MIN,
    SUSPECTS_MAX,
    Coverage,
    Part,
    SeenKeys,
    covered,
    cut_text,
    merged,
    narrowed,
    planned,
    scope_of,
    taken,
)
from tests import values

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
LOG = "log_manifests"


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def result(minute: float, *ranges: KeyRange, cut: int = 7, through: int = 7, pair: str = "p") -> PairResult:
    """Return a result of that minute; without ranges it looked at everything."""
    scope = Scope(since_cut=1, through_cut=through, ranges=ranges) if ranges else None
    return values.result_of(pair, cut=cut, checked_at=at(minute), scope=scope)


def after(*results: PairResult) -> Coverage:
    known = None
    for one in results:
        known = covered(known, one)
    assert known is not None
    return known


def spans(coverage: Coverage) -> list[tuple[str | None, str | None, datetime]]:
    return [(part.keys.above, part.keys.through, part.compared_at) for part in coverage.parts]


def test_a_complete_comparison_covers_everything_and_a_swept_range_its_part() -> None:
    assert covered(None, result(0, KeyRange(through="m"))) is None, "of the rest nothing is known"
    known = after(result(0, cut=7))
    assert spans(known) == [(None, None, at(0))] and (known.lowest_cut, known.cut) == (7, 7)
    known = after(result(0, cut=7), result(10, KeyRange(through="g"), cut=9, through=9))
    assert spans(known) == [(None, "g", at(10)), ("g", None, at(0))]
    assert (known.lowest_cut, known.cut, known.oldest.keys.above, known.newest_at) == (7, 9, "g", at(10))
    known = after(result(0), result(10, KeyRange(through="g")), result(20, KeyRange(above="c", through="k")))
    assert spans(known) == [(None, "c", at(10)), ("c", "k", at(20)), ("k", None, at(0))]
    known = after(result(0), result(10, KeyRange(through="g")), result(20, KeyRange(above="g")))
    assert spans(known) == [(None, "g", at(10)), ("g", None, at(20))]
    assert spans(after(result(0), result(10, KeyRange(through="g")), result(20, KeyRange()))) == [(None, None, at(20))]
    assert spans(after(result(0), result(10, KeyRange(through="g")), result(20))) == [(None, None, at(20))]


def test_changes_are_followed_only_as_far_as_it_is_known_what_changed() -> None:
    # A view that stands further than the reading that found out what changed.
    assert after(result(0, cut=5), result(1, KeyRange(through="g"), cut=20, through=12)).cut == 12
    assert after(result(0, cut=5), result(1, KeyRange(through="g"), cut=9, through=12)).cut == 9


def test_while_aggregates_are_parked_what_changed_is_not_taken_to_be_followed() -> None:
    parked = replace(result(2, KeyRange(through="g"), cut=9, through=9), late_keys=1)
    known = after(result(0, cut=5), result(1, KeyRange(through="g"), cut=7), parked, parked)
    assert known.cut == 7 and known.parts[0].compared_at == at(2)
    assert after_one(known, result(3, KeyRange(through="g"), cut=11, through=11)).cut == 11
    assert after(replace(result(0, cut=5), late_keys=1)).cut == 0


@pytest.mark.parametrize("seed", range(20))
def test_every_key_is_in_exactly_one_part_and_has_the_newest_time(seed: int) -> None:
    numbers = random.Random(seed)
    keys = [f"{number:02d}" for number in range(100)]
    known, truth = after(result(0)), dict.fromkeys(keys, at(0))
    for minute in range(1, 40):
        low, high = sorted(numbers.sample([None, *keys], 2), key=lambda key: key or "")
        swept = KeyRange(above=low, through=numbers.choice([high, None]))
        known = after_one(known, result(minute, swept))
        truth |= {key: at(minute) for key in keys if swept.has(key)}
    for key in keys:
        (part,) = [part for part in known.parts if part.keys.has(key)]
        assert part.compared_at == truth[key]
    assert [part.keys.through for part in known.parts[:-1]] == [part.keys.above for part in known.parts[1:]]
    assert known.parts[0].keys.above is None and known.parts[-1].keys.through is None


def after_one(known: Coverage, one: PairResult) -> Coverage:
    found = covered(known, one)
    assert found is not None
    return found


def plan(minute: float, *known: Coverage | None, **suspects: list[str | None]):
    return planned(known, suspects, [LOG], at(minute))


def test_what_named_keys_alone_were_compared_for_moves_no_coverage() -> None:
    known = after(result(0, cut=7), result(10, KeyRange(through="g"), cut=9, through=9))
    scope = Scope(since_cut=5, through_cut=5, has_changes=False, ids=frozenset({"a"}), id_count=1)
    named = values.result_of("p", cut=12, checked_at=at(20), scope=scope)
    assert covered(known, named) == known
    assert covered(None, named) is None


def test_a_plan_for_what_was_seen_compares_that_and_suspects_alone() -> None:
    made = plan(10, after(result(0)), p=["a"])
    assert made is not None and made.has_changes
    seen = narrowed(made, SeenKeys(ids=frozenset({"b"}), cuts=((2, 3),)))
    assert (seen.parts, seen.cut_parts, seen.share, seen.has_changes) == ((), (), 0.0, False)
    assert (set(seen.suspects), seen.seen_cuts, seen.since_cut) == ({"a", "b"}, ((2, 3),), made.since_cut)
    scope = scope_of(seen, (), [], 9)
    assert (set(scope.ids), scope.has_changes) == ({"a", "b"}, False)


def test_a_plan_begins_at_the_oldest_part_and_takes_as_much_as_time_has_passed() -> None:
    first = after(result(0, cut=7), result(10, KeyRange(through="g"), cut=9, through=9))
    second = after(result(0, cut=5, pair="q"))
    made = plan(40, first, second)
    assert made is not None
    assert made.since_cut == 5
    assert made.parts[-1] == KeyRange(through="g") and set(made.parts[:2]) == {KeyRange(above="g"), KeyRange()}
    assert made.share == pytest.approx(40 * 60 / (PACE * SWEEP_SECONDS_MAX)), "the pair that was looked at longest ago"
    soon = plan(10, first)
    assert soon is not None and soon.share == SHARE_MIN and soon.parts[0] == KeyRange(above="g")


def test_a_plan_looks_at_everything_when_it_knows_too_little() -> None:
    known = after(result(0))
    assert plan(1, known) is not None
    assert plan(1, known, None) is None, "a pair that was never compared completely"
    assert plan(1) is None
    assert plan(PACE * SWEEP_SECONDS_MAX / 60, known) is None, "everything is due"
    assert plan(1, known, p=["a", None]) is None, "a break that names no aggregate"
    assert plan(1, known, p=[str(number) for number in range(SUSPECTS_MAX + 1)]) is None
    found = plan(1, known, p=["a"], q=["b"])
    assert found is not None and found.suspects == {"a", "b"}


def test_the_log_is_swept_by_cuts_and_completely_while_it_has_breaks() -> None:
    log = after(result(0, pair=LOG), result(5, KeyRange(through=cut_text(4)), pair=LOG))
    found = plan(6, after(result(0)), log)
    assert found is not None and found.parts == (KeyRange(),) and found.cut_parts[0] == KeyRange(above=cut_text(4))
    found = planned([after(result(0)), log], {LOG: [None]}, [LOG], at(6))
    assert found is not None and found.whole_pairs == {LOG} and found.suspects == frozenset()
    assert sorted(map(cut_text, (9, 10, 100))) == [cut_text(cut) for cut in (9, 10, 100)]


def test_a_rotation_takes_less_than_the_stated_time_whatever_runs_are_missed() -> None:
    numbers, keys = random.Random(5), 10_000

    def size(part: KeyRange) -> int:
        return int(part.through or keys) - int(part.above or 0)

    def end(part: KeyRange, number: int) -> str | None:
        return f"{int(part.above or 0) + number:05d}" if size(part) > number else None

    known, minute = after(result(0)), 0.0
    for _ in range(400):
        minute += numbers.choice([10, 10, 10, 10, 30, 90])
        made = plan(minute, known)
        assert made is not None
        ranges = taken(made.parts, round(made.share * keys), size, end)
        assert sum(map(size, ranges)) == pytest.approx(made.share * keys, abs=1)
        known = after_one(known, result(minute, *ranges))
        assert not known.is_behind(at(minute))
    assert known.is_behind(at(minute) + timedelta(seconds=SWEEP_SECONDS_MAX))
    assert len(known.parts) < 60


def test_ranges_of_cuts_are_merged() -> None:
    assert merged([(5, 9), (0, 2), (8, 12), (2, 3), (20, 20)]) == [(0, 3), (5, 12)]
    assert merged([]) == []


def test_a_scope_covers_its_ranges_and_ids_and_one_of_cuts_no_aggregate() -> None:
    scope = Scope(since_cut=1, through_cut=2, ranges=(KeyRange(above="b", through="d"),), ids=frozenset({"x"}))
    assert [key for key in "abcdex" if scope.covers(key)] == ["c", "d", "x"]
    of_cuts = Scope(since_cut=1, through_cut=2, ranges=(KeyRange(),), unit=ScopeUnit.CUT)
    assert not of_cuts.covers("c")


def test_a_stored_result_covers_no_more_than_the_result_did() -> None:
    scope = Scope(
        since_cut=1, through_cut=2, ranges=(KeyRange(through="d"),), ids=frozenset(map(str, range(200))), id_count=200
    )
    full = result(0)
    scoped = values.result_of("p", cut=2, checked_at=at(0), scope=scope)
    assert result_of(full.as_json()).is_whole
    stored = result_of(scoped.as_json())
    assert stored.scope is not None and not stored.is_whole
    assert stored.scope.ranges == scope.ranges and stored.scope.id_count == 200
    assert stored.scope.ids < scope.ids


def test_parts_know_their_cuts() -> None:
    parts = (
        Part(keys=KeyRange(through="g"), cut=12, compared_at=at(5)),
        Part(keys=KeyRange(above="g"), cut=3, compared_at=at(9)),
    )
    known = Coverage(pair="p", pod="pod1", cut=12, parts=parts)
    assert (known.lowest_cut, known.oldest.cut) == (3, 12)
