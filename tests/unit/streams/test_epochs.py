"""Crossing from one epoch to the next: where it was opened, when every partition stands there, and nowhere else."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from contracts.errors import EpochChangedError
from derived.step_checks import check_expected, furthest_epoch
from streams.cuts import Cut, Epoch
from streams.epochs import PublishedCut
from streams.log import ChunkManifest, Manifest
from streams.projection import START, EpochOpening, Position, Work
from streams.publishing import CutPublication
from streams.step_planning import of_one_epoch, plan_step
from tests.streams_support import MOMENT


def at(cut: int, chunk: int = 0) -> Position:
    return Position(cut=cut, chunk=chunk)


def manifest(cut: int, epoch: str, follows: str | None = None, chunks: int = 1) -> Manifest:
    chunk = ChunkManifest(events=1, checksum="x")
    return Manifest(
        cut=cut, epoch=epoch, snapshot=f"{cut}:{cut}:", registered_at=MOMENT, partition_function="f", chunk_rows=10,
        codec="c", partitions=((chunk,) * chunks, (chunk,)), oldest_recorded_at=MOMENT, generation=1,
        published_at=MOMENT, follows_epoch=follows,
    )  # fmt: skip


LOG = [manifest(1, "a"), manifest(2, "a"), manifest(3, "b", "a"), manifest(4, "b"), manifest(5, "c", "b")]


def cuts(manifests: object) -> list[int]:
    return [item.cut for item in manifests]  # type: ignore[attr-defined]


def test_an_opening_is_crossed_when_every_partition_stands_at_its_base() -> None:
    assert cuts(of_one_epoch(LOG, None, {}, "it")) == [1, 2]
    assert cuts(of_one_epoch(LOG[1:], "a", {0: at(1), 1: at(2)}, "it")) == [2]
    assert cuts(of_one_epoch(LOG[2:], "a", {0: at(2), 1: at(2)}, "it")) == [3, 4]
    # One partition cannot be read at cut 1: the others do not go beyond the base either.
    assert cuts(of_one_epoch(LOG[2:], "a", {0: at(0), 1: at(2)}, "it")) == []
    assert cuts(of_one_epoch(LOG[2:], "b", {0: at(3), 1: at(2)}, "it")) == [3, 4]


@pytest.mark.parametrize(
    ("known", "first"),
    [("b", manifest(3, "x")), ("b", manifest(3, "x", "a")), ("a", manifest(3, "b")), ("a", manifest(5, "c", "b"))],
)
def test_a_change_that_nobody_opened_is_refused(known: str, first: Manifest) -> None:
    with pytest.raises(EpochChangedError, match="tieout open-epoch"):
        of_one_epoch([first], known, {0: at(2), 1: at(2)}, "it")


def test_a_step_says_what_it_crosses_and_a_store_takes_it_at_the_base_only() -> None:
    found = of_one_epoch([manifest(3, "b", "a", chunks=3)], "a", {0: at(2), 1: at(2)}, "it")
    step = plan_step({0: at(2), 1: at(2)}, found, stopped=(), events_max=2)
    assert step is not None and step.opening == EpochOpening(epoch="b", base_cut=2, base_epoch="a")
    assert step.positions == {0: at(2, 2)}
    work = Work(
        pod="pod1", epoch="b", entries=(), expected=step.expected, positions=step.positions, data_at=MOMENT,
        opening=step.opening,
    )  # fmt: skip
    check_expected(work, {0: ("a", at(2)), 1: ("a", at(2))})
    half = {0: ("b", at(2, 2)), 1: ("a", at(2))}
    assert furthest_epoch(half) == "b" and furthest_epoch({0: (None, START)}) is None
    following = plan_step({0: at(2, 2), 1: at(2)}, found, stopped=(), events_max=9)
    assert following is not None
    both = work_of(following.expected, following.positions, following.opening)
    check_expected(both, half)
    for stored in (("a", at(3)), ("a", at(2, 1)), ("x", at(2))):
        with pytest.raises(EpochChangedError):
            check_expected(work, {0: ("a", at(2)), 1: stored})
    with pytest.raises(EpochChangedError):
        check_expected(work_of(step.expected, step.positions, None), {0: ("a", at(2)), 1: ("a", at(2))})


def work_of(expected: object, positions: object, opening: EpochOpening | None) -> Work:
    return Work(
        pod="pod1", epoch="b", entries=(), expected=expected, positions=positions, data_at=MOMENT,  # type: ignore[arg-type]
        opening=opening,
    )  # fmt: skip


CUT = Cut(
    cut=3, snapshot="3:3:", epoch="b", registered_at=MOMENT, partition_function="f", partition_count=2, chunk_rows=10,
    codec="c",
)  # fmt: skip


def test_only_the_first_cut_of_an_epoch_says_what_it_follows() -> None:
    told = {
        previous: CutPublication(pod="p", cut=CUT, generation=1, previous_epoch=previous).manifest(MOMENT).follows_epoch
        for previous in (None, "a", "b")
    }
    assert told == {None: None, "a": "a", "b": None}
    older = msgspec.json.encode({k: v for k, v in msgspec.to_builtins(manifest(1, "a")).items() if v is not None})
    assert msgspec.json.decode(older, type=Manifest).follows_epoch is None


def test_cuts_of_earlier_epochs_count_up_to_the_base() -> None:
    epoch = Epoch(name="b", base_cut=2)
    epoch.check(2, "a", "cut 2")
    epoch.check(3, "b", "cut 3")
    with pytest.raises(EpochChangedError):
        epoch.check(3, "a", "cut 3")


def test_a_cut_is_the_same_only_if_all_that_is_known_of_it_is() -> None:
    same = PublishedCut(cut=3, epoch="b", registered_at=MOMENT, snapshot="3:3:")
    assert same.agrees_with(CUT) is True
    later = MOMENT + timedelta(microseconds=1)
    others = [("a", MOMENT, "3:3:"), ("b", later, "3:3:"), ("b", MOMENT, "3:4:"), ("a", None, None)]
    assert [
        PublishedCut(cut=3, epoch=epoch, registered_at=moment, snapshot=snapshot).agrees_with(CUT)
        for epoch, moment, snapshot in others
    ] == [False] * 4
    # A backup without the moment can contradict, but prove nothing.
    assert PublishedCut(cut=3, epoch="b", registered_at=None).agrees_with(CUT) is None
