"""A builder that a worker keeps: one process for many builds, started anew only when it must be."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contracts.errors import WarehouseError
from contracts.settings import Settings
from stack.composition import kept_builder as module
from stack.composition.builder import WarehouseBuilder
from stack.composition.kept_builder import Asked, KeptBuilder, joined

SETTINGS = cast("Settings", None)  # only handed on


class Child:
    """Stands for the process."""

    pid = 1
    ended: int | None = None

    def poll(self) -> int | None:
        return self.ended


class Builder:
    """Stands for a `WarehouseBuilder`: it counts its builds, and fails when it is told to."""

    def __init__(self) -> None:
        self.child = Child()
        self.built: object | None = None
        self.is_building = False
        self.cuts: list[Mapping[str, int]] = []
        self.error: BaseException | None = None
        self.again: list[tuple[Mapping[str, int], bool, tuple[str, ...]]] = []
        self.is_entered, self.may_go_on = threading.Event(), threading.Event()
        self.may_go_on.set()

    def build_again(self, *, since: Mapping[str, int], full_refresh: bool, tables: Sequence[str]) -> Any:
        self.is_entered.set()
        assert self.may_go_on.wait(10)
        self.again.append((dict(since), full_refresh, tuple(tables)))
        if self.error is not None:
            raise self.error
        return SimpleNamespace(cuts={"pod1": 9})

    def build_to(self, cuts: Mapping[str, int]) -> Mapping[str, int]:
        assert self.built is None  # what an earlier turn built says nothing about this one
        self.built = cuts
        if self.error is not None:
            self.is_building = not isinstance(self.error, WarehouseError)
            raise self.error
        self.cuts.append(cuts)
        return cuts


class World:
    def __init__(self) -> None:
        self.started: list[Builder] = []
        self.ended = 0
        self.changed_at = 1.0

    @contextmanager
    def start(self, _settings: Any) -> Iterator[WarehouseBuilder]:
        self.started.append(Builder())
        yield cast("WarehouseBuilder", self.started[-1])
        self.ended += 1


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "_resident_mb", lambda _id: 100.0)
    return World()


@pytest.fixture
def kept(world: World) -> KeptBuilder:
    return KeptBuilder(settings=SETTINGS, start=world.start, project_changed_at=lambda: world.changed_at)


def test_one_process_builds_again_and_again(world: World, kept: KeptBuilder) -> None:
    kept.prepare()
    kept.prepare()
    assert [kept.build_to({"pod1": cut}) for cut in (3, 4)] == [{"pod1": 3}, {"pod1": 4}]
    assert (len(world.started), world.ended) == (1, 0)
    kept.close()
    assert world.ended == 1


def test_it_begins_anew_when_it_has_ended_has_grown_or_the_project_has_changed(
    world: World, kept: KeptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.build_to({"pod1": 1})
    world.changed_at = 2.0
    kept.prepare()
    assert (len(world.started), world.ended) == (2, 1)
    world.started[-1].child.ended = -9
    kept.build_to({"pod1": 2})
    assert (len(world.started), world.ended) == (3, 2)
    monkeypatch.setattr(module, "_resident_mb", lambda _id: module.LARGE_MB + 1)
    kept.build_to({"pod1": 3})
    assert (len(world.started), world.ended) == (4, 3)
    assert [one.cuts for one in world.started] == [[{"pod1": 1}], [], [{"pod1": 2}], [{"pod1": 3}]]


def test_an_interrupted_build_answers_nobody_else_and_a_failed_one_ends_nothing(
    world: World, kept: KeptBuilder
) -> None:
    kept.prepare()
    world.started[0].error = WarehouseError("A model failed.")
    with pytest.raises(WarehouseError):
        kept.build_to({"pod1": 1})
    assert world.ended == 0
    world.started[0].error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        kept.build_to({"pod1": 1})
    assert world.ended == 1
    assert kept.build_to({"pod1": 2}) == {"pod1": 2}


def test_nobody_waits_to_prepare_it_while_another_thread_builds(world: World, kept: KeptBuilder) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def build() -> None:
        with kept._turn():
            entered.set()
            go_on.wait(10)

    thread = threading.Thread(target=build)
    thread.start()
    assert entered.wait(10)
    kept.prepare()
    assert thread.is_alive()
    go_on.set()
    thread.join(10)
    assert len(world.started) == 1


def asked(since: Mapping[str, int], *tables: str, is_full: bool = False) -> Asked:
    return Asked(since=since, is_full=is_full, tables=tables)


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        ([asked({"pod1": 4}, "b"), asked({"pod1": 2, "pod2": 7}, "a", "b")], asked({"pod1": 2, "pod2": 7}, "a", "b")),
        ([asked({"pod1": 4}, "a"), asked({"pod1": 5})], asked({"pod1": 4})),
        ([asked({"pod1": 4}, "a"), asked({}, is_full=True)], asked({}, is_full=True)),
    ],
    ids=["tables", "everything", "from nothing"],
)
def test_one_build_does_what_several_ask_for(several: Sequence[Asked], expected: Asked) -> None:
    assert joined(several) == joined(several[::-1]) == expected


def wait_for_builds(kept: KeptBuilder, number: int, ended: Sequence[threading.Thread]) -> None:
    deadline = time.monotonic() + 10
    while len(kept._waiting) < number:
        assert time.monotonic() < deadline and all(thread.is_alive() for thread in ended)
        time.sleep(0.005)


@pytest.mark.parametrize("error", [None, WarehouseError("A model failed.")])
def test_who_waits_for_a_build_has_one_together_with_all_who_wait(
    world: World, kept: KeptBuilder, error: WarehouseError | None
) -> None:
    kept.prepare()
    builder, results = world.started[0], dict[int, object]()
    builder.may_go_on.clear()

    def build(number: int) -> None:
        try:
            results[number] = kept.build_again({"pod1": number}, False, [f"t{number}"])
        except WarehouseError as failed:
            results[number] = failed

    threads = [threading.Thread(target=build, args=(number,)) for number in range(1, 5)]
    threads[0].start()
    assert builder.is_entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    wait_for_builds(kept, 4, threads)
    builder.error = error
    builder.may_go_on.set()
    for thread in threads:
        thread.join(10)
    assert builder.again == [({"pod1": 1}, False, ("t1",)), ({"pod1": 2}, False, ("t2", "t3", "t4"))]
    assert set(results.values()) == {error} if error else list(results.values()) == [{"pod1": 9}] * 4


def test_who_waits_has_its_build_also_when_another_one_was_interrupted(world: World, kept: KeptBuilder) -> None:
    kept.prepare()
    world.started[0].error = KeyboardInterrupt()
    waits = asked({"pod1": 2}, "t2")
    kept._waiting.append(waits)
    with pytest.raises(KeyboardInterrupt):
        kept.build_again({"pod1": 1}, False, ["t1"])
    assert [(one.tables, one.is_over) for one in kept._waiting] == [(("t2",), False)]
    world.started[0].error = None
    kept.build_again({"pod1": 3}, False, ["t3"])
    assert world.started[0].again[-1] == ({"pod1": 2}, False, ("t2", "t3"))
    assert waits.is_over and kept._waiting == []


def test_what_the_running_process_has_used_is_asked_of_it(
    world: World, kept: KeptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = SimpleNamespace(user=3.0, system=1.0, children_user=0.5, children_system=0.25)
    monkeypatch.setattr(
        "stack.composition.kept_builder.psutil.Process", lambda _: SimpleNamespace(cpu_times=lambda: used)
    )
    assert kept.cpu_seconds() == 0.0
    kept.prepare()
    assert kept.cpu_seconds() == 4.75
    world.started[0].child.ended = 0
    assert kept.cpu_seconds() == 4.75  # what an ended process took is not forgotten
    kept.prepare()
    used.user = 1.0
    assert kept.cpu_seconds() == 4.75 + 2.75
