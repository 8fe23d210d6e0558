"""The witness of the lake on a real catalog: nothing that the lake's writers do is seen, and every cheat is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from contracts.events.order import OrderState
from contracts.sightings import KeptSighting, SightingKind
from derived.lake import connect_lake, migrate_lake
from derived.lake_compaction import compact
from derived.lake_connection import transaction
from derived.lake_repair import change_lake
from derived.lake_schema import EVENTS, PARKED
from drills import wiping
from reconcile.sightings import migrate as migrate_sightings
from reconcile.sightings import newest_sightings
from tests.conftest import MakeDatabase
from tests.derived_work import PARTITIONS, FakePod, order, parked
from tests.integration.derived.conftest import PODS, Lake
from tests.values import settings_of
from witness.lake import LakeWitness
from witness.watching import Look


@dataclass(kw_only=True)
class Watched:
    """A lake of its own with two cuts, and a witness that has looked."""

    lake: Lake
    control_dsn: str
    pod: FakePod = field(default_factory=FakePod)
    first: OrderState = field(default_factory=order)
    witness: LakeWitness = field(init=False)

    def __post_init__(self) -> None:
        """Make the witness."""
        self.witness = self._made()

    def again(self) -> None:
        """Let a new process look."""
        self.witness.close()
        self.witness = self._made()

    def _made(self) -> LakeWitness:
        return LakeWitness(
            catalog_dsn=self.lake.catalog_dsn,
            control_dsn=self.control_dsn,
            data_path=self.lake.data_path,
            beat_seconds=0,
        )

    def seen(self) -> list[KeptSighting]:
        """Look, and return all sightings, the newest first."""
        assert self.witness.look_once().trouble == ""
        return newest_sightings(self.control_dsn)

    def cheat(self, *statements: str) -> None:
        """Change the lake with DuckDB as anybody can who has the catalog's password."""
        with connect_lake(self.lake.catalog_dsn, self.lake.data_path) as connection:
            for statement in statements:
                connection.execute(statement)

    def files(self) -> list[Path]:
        """Return the files of the events."""
        return sorted(Path(self.lake.data_path).glob("raw/events/**/*.parquet"))


@pytest.fixture
def watched(own_lake: Lake, make_database: MakeDatabase) -> Iterator[Watched]:
    control_dsn = make_database("tieout_control")
    migrate_sightings(control_dsn)
    made = Watched(lake=own_lake, control_dsn=control_dsn)
    look = made.witness.look_once()
    assert (look.sightings, look.trouble) == (0, "")
    own_lake.apply(made.pod.step(made.pod.cut(made.first)))
    own_lake.apply(made.pod.step(made.pod.cut(order(), order()), since=1))
    yield made
    made.witness.close()


def test_consumers_parking_compaction_repairs_and_migrations_are_not_seen(watched: Watched) -> None:
    lake, pod = watched.lake, watched.pod
    assert watched.seen() == []
    bad = pod.event(order(), payload="{")
    lake.apply(pod.step(pod.cut(), since=2, parked=[parked(bad)]))
    with lake.connect() as connection:
        rows = connection.execute(f"select * from {EVENTS} limit 0").to_arrow_reader().read_all()
    change_lake(
        lake.catalog_dsn, lake.data_path, "pod1", rows, lambda changed: bool(changed.execute(f"delete from {PARKED}"))
    )
    assert watched.seen() == []
    for _ in range(2):
        compact(lake.catalog_dsn, lake.data_path, keep_seconds=0)
        migrate_lake(lake.catalog_dsn, lake.data_path, pods=(*PODS, "pod3"), partition_count=PARTITIONS)
        assert watched.seen() == []
    assert watched.witness.look_once().proven_seconds_ago is not None


def test_a_warehouse_that_a_drill_wipes_is_not_seen(watched: Watched, tmp_path: Path) -> None:
    lake = watched.lake
    with connect_lake(lake.catalog_dsn, lake.data_path) as connection, transaction(connection, by="a build"):
        for schema in wiping.BUILT:
            connection.execute(f"create schema if not exists lake.{schema}")
            connection.execute(f"create table lake.{schema}.made as select 1 as one")
    assert watched.seen() == []
    noted: list[bool] = []
    settings = settings_of(tmp_path, catalog_dsn=lake.catalog_dsn, lake_data_path=lake.data_path)
    scene: Any = SimpleNamespace(
        system=SimpleNamespace(settings=settings), note=lambda *_, is_ok, **__: noted.append(is_ok)
    )
    wiping.wipe_warehouse(scene)
    assert noted == [True] and watched.seen() == []


def test_tables_of_people_are_theirs(watched: Watched) -> None:
    assert watched.seen() == []
    watched.cheat("create schema lake.mine", "create table lake.mine.notes as select 1 as one")
    assert watched.seen() == []


def duplicated(watched: Watched) -> None:
    aggregate_id = watched.first.order_id
    watched.cheat(f"insert into {EVENTS} select * from {EVENTS} where aggregate_id = '{aggregate_id}'")


def deleted(watched: Watched) -> None:
    watched.cheat(f"delete from {EVENTS} where aggregate_id = '{watched.first.order_id}'")


def changed(watched: Watched) -> None:
    watched.cheat(f"update {EVENTS} set payload = '{{}}' where aggregate_id = '{watched.first.order_id}'")


def dropped(watched: Watched) -> None:
    watched.cheat(f"drop table {EVENTS}")


def fence_moved(watched: Watched) -> None:
    watched.cheat("update lake.raw.fence_lake_pod1 set cut = cut + 1")


CHEATS: dict[Callable[[Watched], None], str] = {
    duplicated: "raw.events",
    deleted: "raw.events",
    changed: "raw.events",
    dropped: "raw.events",
    fence_moved: "raw.fence_lake_pod1",
}


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_a_snapshot_of_a_stranger_is_seen(watched: Watched, cheat: Callable[[Watched], None]) -> None:
    assert watched.seen() == []
    cheat(watched)
    found = watched.seen()
    assert {(one.kind, one.copy, one.place) for one in found} == {(SightingKind.UNANNOUNCED, "lake", CHEATS[cheat])}
    assert all(one.written_at is not None for one in found)
    if cheat is duplicated:
        assert [(one.pod, one.aggregate_id) for one in found] == [("pod1", watched.first.order_id)]
    watched.again()
    assert watched.seen() == found


def test_a_file_that_is_gone_or_cut_is_seen_once_and_again_after_it_was_right(watched: Watched) -> None:
    assert watched.seen() == []
    gone, cut = watched.files()[:2]
    whole = cut.read_bytes()
    gone.unlink()
    cut.write_bytes(whole[:-1])
    found = watched.seen()
    assert {(one.kind, one.copy, one.pod, one.place) for one in found} == {
        (SightingKind.LOST, "lake", "pod1", "raw.events")
    }
    assert sorted(one.what.partition(") ")[2].split()[0] for one in found) == ["has", "is"]
    assert watched.seen() == found
    cut.write_bytes(whole)
    assert watched.seen() == found
    cut.write_bytes(whole[:-2])
    assert len(watched.seen()) == len(found) + 1


def test_a_file_that_was_written_again_in_its_size_is_seen(watched: Watched) -> None:
    assert watched.seen() == []
    (file, *_) = watched.files()
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(content)
    assert watched.seen() == []  # as it was
    file.write_bytes(bytes([*content[:100], content[100] ^ 1, *content[101:]]))
    (found,) = watched.seen()
    assert (found.kind, found.place, found.copy) == (SightingKind.LOST, "raw.events", "lake")
    assert "was written again" in found.what
    assert watched.seen() == [found]
    # Nor does it help to set the time back: the files are read in turn.
    file.write_bytes(content)
    os.utime(file, ns=times)
    assert len(watched.seen()) == 2


def test_a_catalog_that_was_set_back_or_replaced_is_blindness(watched: Watched) -> None:
    assert watched.seen() == []
    with psycopg.connect(watched.lake.catalog_dsn) as catalog:
        catalog.execute(
            "delete from ducklake_snapshot where snapshot_id = (select max(snapshot_id) from ducklake_snapshot)"
        )
    kinds = [(one.kind, one.copy) for one in watched.seen()]
    assert sorted(kinds) == [(SightingKind.BLIND, "lake"), (SightingKind.BLIND, "warehouse")]


def test_a_witness_that_begins_late_says_that_it_was_blind(watched: Watched, make_database: MakeDatabase) -> None:
    watched.control_dsn = make_database("tieout_control")
    migrate_sightings(watched.control_dsn)
    watched.again()
    assert watched.witness.look_once() != Look(sightings=0)
    assert {one.kind for one in newest_sightings(watched.control_dsn)} == {SightingKind.BLIND}
