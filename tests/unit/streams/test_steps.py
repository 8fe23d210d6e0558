"""Planning what a consumer applies next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import LogGapError
from streams.log import ChunkManifest, Manifest
from streams.projection import START, Position
from streams.step_planning import check_contiguous, completed, floor_cut, plan_step
from tests.streams_support import MOMENT


def manifest(cut: int, *partitions: Sequence[int]) -> Manifest:
    return Manifest(
        cut=cut,
        epoch="e",
        snapshot=f"{cut}:{cut}:",
        registered_at=MOMENT,
        partition_function="f",
        chunk_rows=10,
        codec="c",
        partitions=tuple(tuple(ChunkManifest(events=events, checksum="x") for events in sizes) for sizes in partitions),
        oldest_recorded_at=MOMENT,
        generation=1,
        published_at=MOMENT,
    )


def places(entries: Sequence[object]) -> list[tuple[int, int, int]]:
    return [(entry.at.partition, entry.at.cut, entry.at.chunk) for entry in entries]  # type: ignore[attr-defined]


def test_several_small_cuts_make_one_step_and_a_partition_without_events_moves_too() -> None:
    step = plan_step({}, [manifest(1, [3], []), manifest(2, [2], [1])], stopped=(), events_max=100)
    assert step is not None
    assert places(step.entries) == [(0, 1, 0), (0, 2, 0), (1, 2, 0)]
    assert step.positions == {0: Position(cut=2, chunk=0), 1: Position(cut=2, chunk=0)}
    assert step.expected == {0: START, 1: START}


def test_an_empty_cut_moves_positions_alone() -> None:
    here = {0: Position(cut=1, chunk=0), 1: Position(cut=1, chunk=0)}
    step = plan_step(here, [manifest(2, [], [])], stopped=(), events_max=100)
    assert step is not None
    assert step.entries == ()
    assert step.positions == dict.fromkeys((0, 1), Position(cut=2, chunk=0))


def test_nothing_left_is_no_step() -> None:
    here = {0: Position(cut=2, chunk=0)}
    assert plan_step(here, [manifest(2, [5])], stopped=(), events_max=100) is None
    assert plan_step(here, [], stopped=(), events_max=100) is None


def test_the_first_step_stores_every_partition_even_a_stopped_one() -> None:
    step = plan_step({}, [manifest(1, [3], [4])], stopped={0}, events_max=100)
    assert step is not None
    assert step.positions == {0: START, 1: Position(cut=1, chunk=0)}


def test_a_missing_position_means_nothing_applied_if_the_floor_s_cut_had_the_partition() -> None:
    stored = {1: Position(cut=5, chunk=0)}
    assert floor_cut(completed(stored, manifest(5, [], []))) == 0
    assert floor_cut(completed(stored, None)) == 5


def test_a_partition_that_was_added_later_starts_at_the_floor() -> None:
    here = {0: Position(cut=5, chunk=0)}
    step = plan_step(completed(here, manifest(5, [])), [manifest(6, [1], [2])], stopped=(), events_max=100)
    assert step is not None
    assert places(step.entries) == [(0, 6, 0), (1, 6, 0)]
    assert step.expected == {0: Position(cut=5, chunk=0), 1: START}


def test_a_hole_in_the_manifests_is_a_gap() -> None:
    with pytest.raises(LogGapError, match="no manifest of cut 3"):
        check_contiguous(2, [manifest(4, [1])], "pod1")
    check_contiguous(2, [manifest(3, [1]), manifest(4, [1])], "pod1")


sizes = st.lists(st.integers(1, 10), max_size=4)
cuts = st.lists(st.tuples(sizes, sizes, sizes), min_size=1, max_size=6)


@given(cuts=cuts, events_max=st.integers(1, 30), stopped=st.sets(st.integers(0, 2), max_size=2))
def test_steps_apply_every_entry_of_the_moving_partitions_once_and_in_order(
    cuts: list[tuple[list[int], ...]], events_max: int, stopped: set[int]
) -> None:
    manifests = [manifest(number, *partitions) for number, partitions in enumerate(cuts, start=1)]
    here: Mapping[int, Position] = {}
    seen: list[tuple[int, int, int]] = []
    for _ in range(1_000):
        step = plan_step(here, manifests, stopped=stopped, events_max=events_max)
        if step is None:
            break
        size = sum(entry.stated.events for entry in step.entries)
        assert size <= events_max or len(step.entries) == 1
        assert step.positions, "a step that moves nothing would be repeated forever"
        assert step.expected == {partition: here.get(partition, START) for partition in step.positions}
        seen += places(step.entries)
        here = {**here, **step.positions}
    wanted = [
        (partition, number, chunk)
        for number, partitions in enumerate(cuts, start=1)
        for partition, chunks in enumerate(partitions)
        if partition not in stopped
        for chunk in range(len(chunks))
    ]
    assert sorted(seen) == sorted(wanted)
    for partition in range(3):
        own = [place for place in seen if place[0] == partition]
        assert own == sorted(own)
        assert here[partition] == (START if partition in stopped else Position(cut=len(cuts), chunk=0))
