"""A builder that a worker keeps: one process for many builds, started anew only when it must be."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import pytest

from contracts.errors import WarehouseError
from contracts.settings import Settings
from stack.composition import kept_builder as module
from stack.composition.builder import WarehouseBuilder
from stack.composition.kept_builder import KeptBuilder

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
