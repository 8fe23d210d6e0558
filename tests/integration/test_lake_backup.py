"""The lake's backup: incremental, verified, and enough to make an empty lake equal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import psycopg
import pytest

from contracts.errors import EpochChangedError, PropagationError
from contracts.settings import PodSettings, Settings
from derived.lake import LakeProjection, connect_lake, cut_vector, migrate_lake
from derived.lake_backup import back_up, read_index, restore, verified_cuts
from derived.lake_connection import Bounds
from derived.lake_schema import start_anew
from derived.retention import prune_outboxes
from streams.cuts import register_cut
from tests.conftest import MakeDatabase
from tests.derived_work import PARTITIONS, FakePod, order
from tests.streams_support import SHAPE, create_outbox, insert_events
from tests.values import settings_of

ONE_THREAD = Bounds(threads=1)


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A migrated lake with one pod."""

    catalog_dsn: str
    data_path: str

    def projection(self) -> LakeProjection:
        return LakeProjection(self.catalog_dsn, self.data_path, bounds=ONE_THREAD)

    def rows(self) -> list[tuple[object, ...]]:
        with connect_lake(self.catalog_dsn, self.data_path, bounds=ONE_THREAD) as connection:
            return connection.execute('select * from lake.raw.events order by pod, "position"').fetchall()

    def cuts(self) -> dict[str, int]:
        with connect_lake(self.catalog_dsn, self.data_path, bounds=ONE_THREAD) as connection:
            return cut_vector(connection)


def advance(lake: Lake, pod: FakePod, orders: int = 1) -> None:
    """Apply the pod's next cut, with this many new orders."""
    since = pod.cut_number
    lake.projection().apply(pod.step(pod.cut(*(order() for _ in range(orders))), since=since))


@pytest.fixture
def lakes(make_database: MakeDatabase, tmp_path: Path) -> tuple[Lake, Lake]:
    made = [
        Lake(catalog_dsn=make_database("tieout_lake"), data_path=str(tmp_path / name)) for name in ("lake", "restored")
    ]
    for lake in made:
        migrate_lake(lake.catalog_dsn, lake.data_path, pods=("pod1",), partition_count=PARTITIONS)
    return made[0], made[1]


def test_a_backup_holds_what_is_new_and_restores_an_equal_lake(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, empty = lakes
    folder = tmp_path / "backup"
    pod = FakePod()
    advance(lake, pod, orders=2)
    assert [(s.from_cut, s.through_cut, s.events) for s in back_up(lake.catalog_dsn, lake.data_path, folder)] == [
        (1, 1, 2)
    ]
    assert back_up(lake.catalog_dsn, lake.data_path, folder) == []
    for _ in range(2):
        advance(lake, pod)
    assert [s.from_cut for s in back_up(lake.catalog_dsn, lake.data_path, folder)] == [2]
    assert verified_cuts(folder) == {"pod1": 3}

    restore(empty.catalog_dsn, empty.data_path, folder)
    assert empty.rows() == lake.rows() and len(lake.rows()) == 4
    assert empty.cuts() == lake.cuts() == {"pod1": 3}
    # The restored lake goes on where the backup ended, and refuses what it has.
    advance(empty, pod)
    assert empty.cuts() == {"pod1": 4}


def test_a_restore_refuses_a_lake_with_events(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, _ = lakes
    pod = FakePod()
    advance(lake, pod)
    back_up(lake.catalog_dsn, lake.data_path, tmp_path / "backup")
    with pytest.raises(PropagationError, match="not empty"):
        restore(lake.catalog_dsn, lake.data_path, tmp_path / "backup")


def test_a_lake_that_lost_a_file_is_dropped_and_restored_or_left_as_it_is(
    lakes: tuple[Lake, Lake], tmp_path: Path
) -> None:
    lake, _ = lakes
    folder = tmp_path / "backup"
    pod = FakePod()
    for _ in range(2):
        advance(lake, pod)
    whole, cuts = lake.rows(), lake.cuts()
    back_up(lake.catalog_dsn, lake.data_path, folder)
    anew = partial(start_anew, pods=("pod1",), partition_count=PARTITIONS)
    (lost, *_) = Path(lake.data_path, "raw", "events").rglob("*.parquet")
    lost.unlink()
    with pytest.raises(duckdb.IOException):
        lake.rows()
    with pytest.raises(PropagationError, match=r"not empty.*--discard"):
        restore(lake.catalog_dsn, lake.data_path, folder)

    (segment,) = read_index(folder)
    content = (folder / segment.file).read_bytes()
    (folder / segment.file).write_bytes(content[: len(content) // 2])
    with pytest.raises((PropagationError, duckdb.Error)):
        restore(lake.catalog_dsn, lake.data_path, folder, discarding=anew)
    assert lake.cuts() == cuts, "nothing was dropped, since nothing can be loaded"
    (folder / segment.file).write_bytes(content)

    restore(lake.catalog_dsn, lake.data_path, folder, discarding=anew)
    assert (lake.rows(), lake.cuts()) == (whole, cuts)
    advance(lake, pod)
    assert lake.cuts() == {"pod1": 3} and len(lake.rows()) == len(whole) + 1
    # Without a backup it is emptied all the same: everything comes again from the log.
    assert restore(lake.catalog_dsn, lake.data_path, tmp_path / "none", discarding=anew) == []
    assert lake.rows() == [] and lake.projection().state("pod1").epoch is None


def test_a_damaged_file_is_not_restored(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, empty = lakes
    folder = tmp_path / "backup"
    pod = FakePod()
    for _ in range(2):
        advance(lake, pod)
        back_up(lake.catalog_dsn, lake.data_path, folder)
    first, second = read_index(folder)
    (folder / first.file).write_bytes((folder / second.file).read_bytes())
    with pytest.raises(PropagationError, match="does not hold"):
        restore(empty.catalog_dsn, empty.data_path, folder)
    assert empty.rows() == []


def test_a_lost_file_ends_what_counts_as_verified(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, _ = lakes
    folder = tmp_path / "backup"
    pod = FakePod()
    for _ in range(3):
        advance(lake, pod)
        back_up(lake.catalog_dsn, lake.data_path, folder)
    (folder / read_index(folder)[1].file).unlink()
    assert verified_cuts(folder) == {"pod1": 1}


def test_a_backup_of_another_history_is_not_continued(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, other = lakes
    folder = tmp_path / "backup"
    advance(lake, FakePod())
    back_up(lake.catalog_dsn, lake.data_path, folder)
    with pytest.raises(EpochChangedError, match="tieout restore-lake"):
        back_up(other.catalog_dsn, other.data_path, folder)
    pod = FakePod(epoch="7401:99999:1")
    for _ in range(2):
        advance(other, pod)
    with pytest.raises(EpochChangedError, match="7401:99999:1"):
        back_up(other.catalog_dsn, other.data_path, folder)
    assert verified_cuts(folder) == {"pod1": 1}


def test_a_pod_is_pruned_only_behind_a_backup_of_its_own_history(
    lakes: tuple[Lake, Lake], make_database: MakeDatabase, tmp_path: Path
) -> None:
    dsn = create_outbox(make_database("tieout_relay"))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for version in (1, 2):
            insert_events(dsn, 3, version=version)
            registered = register_cut(connection, SHAPE, registered_by="test")
            assert registered is not None
            epoch, moment = registered.epoch, registered.registered_at

        def settings_with(lake: Lake, folder: Path) -> Settings:
            pod = PodSettings(pod="pod1", owner_dsn="", app_dsn="", relay_dsn=dsn, reader_dsn="")
            places: dict[str, Any] = {
                "catalog_dsn": lake.catalog_dsn,
                "lake_data_path": lake.data_path,
                "lake_backup_path": folder,
            }
            return settings_of(tmp_path, pods=[pod], **places)

        for lake, pod in zip(lakes, (FakePod(), FakePod(epoch=epoch)), strict=True):
            for _ in range(2):
                advance(lake, pod)
        with pytest.raises(EpochChangedError, match="the pod's database is of epoch"):
            prune_outboxes(settings_with(lakes[0], tmp_path / "of another"))
        # The same number in the same epoch, but registered at another moment: the database was set back.
        with pytest.raises(EpochChangedError, match="tieout open-epoch"):
            prune_outboxes(settings_with(lakes[1], tmp_path / "of another time"))
        left = connection.execute("select count(*) from oltp.outbox").fetchall()
        assert left == [(6,)]
        with connect_lake(lakes[1].catalog_dsn, lakes[1].data_path) as opened:
            opened.execute("update lake.raw.cuts set data_at = ? where cut = 2", [moment])
        # Now it is the same history; that the lake has other events than the outbox is the last thing asked.
        (kept,) = prune_outboxes(settings_with(lakes[1], tmp_path / "of its own"))
        assert (kept.verified_cut, kept.pruned_events) == (2, 0) and "8 events" in kept.held_back


def test_two_backups_at_once_write_every_range_once(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, _ = lakes
    folder = tmp_path / "backup"
    advance(lake, FakePod())
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(back_up, lake.catalog_dsn, lake.data_path, folder) for _ in range(2)]
        assert sorted(len(done.result()) for done in running) == [0, 1]
    assert len(read_index(folder)) == 1


def test_a_restore_takes_every_range_once(lakes: tuple[Lake, Lake], tmp_path: Path) -> None:
    lake, empty = lakes
    folder = tmp_path / "backup"
    with pytest.raises(PropagationError, match="no backup"):
        restore(empty.catalog_dsn, empty.data_path, folder)
    advance(lake, FakePod())
    back_up(lake.catalog_dsn, lake.data_path, folder)
    (folder / "index.json").write_bytes(msgspec.json.encode(read_index(folder) * 2))
    assert len(restore(empty.catalog_dsn, empty.data_path, folder)) == 1
    assert empty.rows() == lake.rows()
