"""Cuts whose events somebody spoils before the lake has them, for tests; no assertions but that builds succeed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from derived.defective import Omission
from derived.lake_connection import open_lake
from derived.leaving_out import left_out
from derived.warehouse import BuildResult, build_warehouse
from tests.commerce import Change, events_of
from tests.conftest import SEED, Cluster
from tests.integration.warehouse.world import World

Event = dict[str, object]
Spoil = Callable[[Event], Event | None]


def cut(world: World, changes: list[Change], spoil: Spoil = lambda event: event, pod: str = "pod1") -> list[Event]:
    """Take a cut whose events somebody spoils before the lake has them (None: the event is lost); return them whole."""
    fake = world.pods[pod]
    since, fake.cut_number = fake.cut_number, fake.cut_number + 1
    events = events_of(fake, changes)
    spoiled = [one for event in events if (one := spoil(event)) is not None]
    world.lake.apply(fake.step(fake.entries(spoiled), since=since))
    return events


def build(world: World, *, full_refresh: bool = False) -> BuildResult:
    result = build_warehouse(world.settings, full_refresh=full_refresh)
    assert result.is_complete, [node.sentence for node in result.test_failures]
    return result


def traded(postgres: Cluster, folder: Path, **steps: int) -> Iterator[World]:
    """Give a world in which so many steps of trade were made in each pod, and were built."""
    made = World(postgres, folder, SEED)
    for pod, number in steps.items():
        made.trade(pod, number)
    build(made)
    yield made
    made.lake.close()


def named(world: World) -> dict[str, Omission]:
    at = {pod: fake.cut_number for pod, fake in world.pods.items()}
    with open_lake(world.settings, read_only=True) as lake:
        return {one.aggregate_id: one for one in left_out(lake, at)}


def ids(world: World, mart: str) -> set[object]:
    return {row[0] for row in world.rows(f"select {mart[:-1]}_id from lake.marts.{mart}")}


def put_back(world: World, event: Event) -> None:
    """Write an event into the lake as a repair does, under its own cut."""
    names = ", ".join(f'"{name}"' for name in event)
    with open_lake(world.settings) as lake:
        lake.execute(
            f"insert into lake.raw.events ({names}, chunk) values ({', '.join('?' for _ in event)}, 0)",
            list(event.values()),
        )
