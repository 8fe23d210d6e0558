"""The lake: events once, fenced consumers, positions, compaction."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.errors import EpochChangedError, StackError
from contracts.events.envelope import ENVELOPE_COLUMNS
from derived.lake import (
    connect_lake,
    cut_vector,
    cut_vector_at,
    has_reached,
    lake_positions,
    migrate_lake,
    read_events,
)
from derived.lake_compaction import compact
from streams.projection import START, FencedError, Position
from tests.derived_work import EPOCH, NOON, PARTITIONS, FakePod, key_of, order, parked, twice_at_once
from tests.integration.derived.conftest import Lake


def ids(reader: object) -> list[str]:
    return sorted(reader.read_all().column("event_id").to_pylist())  # type: ignore[attr-defined]


def test_migrating_twice_changes_nothing(lake: Lake) -> None:
    migrate_lake(lake.catalog_dsn, lake.data_path, pods=("pod1", "pod2"), partition_count=PARTITIONS)
    with lake.connect() as connection:
        assert lake_positions(connection, "pod1") == dict.fromkeys(range(PARTITIONS), START)
        assert cut_vector(connection) == {"pod1": 0, "pod2": 0}


def test_all_columns_arrive_unchanged(lake: Lake) -> None:
    pod = FakePod()
    work = pod.step(pod.cut(order(), order()))
    lake.projection().apply(work)
    columns = ", ".join(f'"{name}"' for name in ENVELOPE_COLUMNS)
    stored = lake.rows(f'select {columns} from lake.raw.events order by "position"')
    assert stored == [tuple(event[name] for name in ENVELOPE_COLUMNS) for event in pod.events]


def test_files_have_row_groups_that_a_reader_can_hold_whole(own_lake: Lake) -> None:
    pod = FakePod()
    own_lake.projection().apply(pod.step(pod.cut(*(order(lines=20) for _ in range(3_000)))))
    ((size, groups),) = own_lake.rows(
        "select max(total_uncompressed_size), count(distinct row_group_id) "
        f"from parquet_metadata('{own_lake.data_path}/raw/events/**/*.parquet') where path_in_schema = 'payload'"
    )
    # How many is up to DuckDB's threads. One vector is the least that a row group has; without a bound it would be all
    # 3,000 rows.
    assert int(str(groups)) > 1
    ((whole,),) = own_lake.rows("select sum(strlen(payload)) from lake.raw.events")
    assert int(str(size)) < 0.75 * int(str(whole))


def test_the_same_step_twice_is_fenced_and_changes_nothing(lake: Lake) -> None:
    pod = FakePod()
    projection = lake.projection()
    work = pod.step(pod.cut(order()))
    projection.apply(work)
    with pytest.raises(FencedError):
        projection.apply(work)
    with pytest.raises(FencedError):
        lake.projection().apply(work)
    assert lake.rows("select count(*) from lake.raw.events") == [(1,)]


def test_a_second_copy_of_a_cut_inside_a_later_step_is_left_out(lake: Lake) -> None:
    pod = FakePod()
    projection = lake.projection()
    first = pod.cut(order())
    projection.apply(pod.step(first))
    second = pod.cut(order())
    projection.apply(pod.step([*first, *second], since=1))
    assert lake.rows("select cut, count(*) from lake.raw.events group by cut order by cut") == [(1, 1), (2, 1)]


def test_a_larger_partition_count_does_not_set_the_lake_back(lake: Lake) -> None:
    pod = FakePod()
    lake.apply(pod.step(pod.cut(order())))
    migrate_lake(lake.catalog_dsn, lake.data_path, pods=("pod1", "pod3"), partition_count=PARTITIONS + 4)
    with lake.connect() as connection:
        assert cut_vector(connection) == {"pod1": 1, "pod2": 0, "pod3": 0}
        assert len(lake_positions(connection, "pod1")) == PARTITIONS + 4
    assert lake.projection().state("pod1").epoch == EPOCH


def test_nothing_waits_behind_what_is_no_longer_parked(lake: Lake) -> None:
    pod, placed = FakePod(), order()
    with pytest.raises(FencedError, match="replayed meanwhile"):
        lake.apply(pod.step(pod.cut(), behind=(key_of(placed),)))


def test_of_two_consumers_racing_one_wins_every_cut(lake: Lake) -> None:
    pod = FakePod()
    works = [pod.step(pod.cut(order(), order(), order()), since=cut) for cut in range(12)]
    fenced: list[int] = []
    barrier = threading.Barrier(2)

    def consume() -> None:
        projection = lake.projection()
        barrier.wait()
        while (cut := projection.state("pod1").positions.get(0, START).cut) < len(works):
            try:
                projection.apply(works[cut])
            except FencedError:
                fenced.append(cut)
        projection.close()

    twice_at_once(consume)
    assert fenced, "the consumers never met; the race was not tested"
    assert lake.rows("select count(*), count(distinct event_id) from lake.raw.events") == [(36, 36)]


def test_a_step_that_breaks_leaves_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = FakePod()
    projection = lake.projection()
    work = pod.step(pod.cut(order()))

    def crash(*_: object) -> None:
        raise RuntimeError("crash")

    with monkeypatch.context() as patch:
        patch.setattr("derived.lake._park", crash)
        with pytest.raises(RuntimeError):
            projection.apply(work)
    assert lake.rows("select count(*) from lake.raw.events") == [(0,)]
    assert projection.state("pod1").positions == {}
    projection.apply(work)
    assert lake.rows("select count(*) from lake.raw.events") == [(1,)]


def test_a_large_cut_comes_chunk_by_chunk(lake: Lake) -> None:
    pod = FakePod(partitions=1, chunk_rows=2)
    entries = pod.cut(*(order() for _ in range(5)))
    assert [entry.chunk for entry in entries] == [0, 1, 2]
    positions = [START, Position(cut=0, chunk=1), Position(cut=0, chunk=2), Position(cut=1, chunk=0)]
    for entry, before, after in zip(entries, positions, positions[1:], strict=False):
        lake.projection().apply(pod.step([entry], expected={0: before}, positions={0: after}))
        with lake.connect() as connection:
            # pod.event placed the events in partitions of its own; the other three have nothing of the cut.
            assert cut_vector(connection)["pod1"] == 0
            assert len(ids(read_events(connection, "pod1", None, {0: after}))) == min(2 * (entry.chunk + 1), 5)
            assert len(ids(read_events(connection, "pod1", None, {0: before}))) == 2 * entry.chunk


def test_a_cut_is_complete_only_with_all_partitions(lake: Lake) -> None:
    pod = FakePod()
    entries = pod.cut(*(order() for _ in range(20)))
    done = Position(cut=1, chunk=0)
    projection = lake.projection()
    for partition in range(PARTITIONS):
        mine = [entry for entry in entries if entry.partition == partition]
        with lake.connect() as connection:
            assert cut_vector(connection)["pod1"] == 0
        projection.apply(pod.step(mine, expected={partition: START}, positions={partition: done}))
    with lake.connect() as connection:
        assert cut_vector(connection) == {"pod1": 1, "pod2": 0}
        assert cut_vector_at(connection, NOON) == {"pod1": 0, "pod2": 0}
        assert cut_vector_at(connection, NOON + timedelta(minutes=1)) == {"pod1": 1, "pod2": 0}


def test_another_epoch_is_refused(lake: Lake) -> None:
    pod = FakePod()
    lake.projection().apply(pod.step(pod.cut(order())))
    with pytest.raises(EpochChangedError):
        lake.projection().apply(pod.step(pod.cut(order()), since=1, epoch="7401:16384:2"))
    assert lake.rows("select count(*) from lake.raw.events") == [(1,)]


def test_parked_events_come_with_the_position_and_go_with_their_replay(lake: Lake) -> None:
    pod = FakePod()
    pod.cut_number = 1
    event = pod.event(order())
    projection = lake.projection()
    projection.apply(pod.step([], parked=[parked(event)]))
    state = projection.state("pod1")
    assert state.parked_keys == {parked(event).aggregate_key}
    assert state.positions[0] == Position(cut=1, chunk=0)
    assert projection.parked_events("pod1") == [parked(event)]

    here = {0: Position(cut=1, chunk=0)}
    replay = pod.step(pod.entries([event]), expected=here, positions=here, released=[parked(event).aggregate_key])
    projection.apply(replay)
    assert projection.state("pod1").parked_keys == frozenset()
    assert lake.rows("select event_id from lake.raw.events") == [(event["event_id"],)]
    with pytest.raises(FencedError):
        projection.apply(replay)
    assert lake.rows("select count(*) from lake.raw.events") == [(1,)]


def test_pods_do_not_disturb_each_other(lake: Lake) -> None:
    projection = lake.projection()
    works: Mapping[str, FakePod] = {name: FakePod(pod=name) for name in ("pod1", "pod2")}
    failures: list[Exception] = []

    def consume(pod: FakePod) -> None:
        try:
            for cut in range(8):
                projection.apply(pod.step(pod.cut(order()), since=cut))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=consume, args=(pod,)) for pod in works.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with lake.connect() as connection:
        assert cut_vector(connection) == {"pod1": 8, "pod2": 8}


def test_events_of_keys_as_of_a_position(lake: Lake) -> None:
    pod = FakePod()
    projection = lake.projection()
    first, other = order(), order()
    projection.apply(pod.step(pod.cut(first, other)))
    changed = order(order_id=first.order_id, version=2)
    projection.apply(pod.step(pod.cut(changed), since=1))
    one, two = (dict.fromkeys(range(PARTITIONS), Position(cut=cut, chunk=0)) for cut in (1, 2))
    with lake.connect() as connection:

        def versions(position: Mapping[int, Position], **options: object) -> list[int]:
            reader = read_events(connection, "pod1", [key_of(first)], position, **options)  # type: ignore[arg-type]
            return sorted(reader.read_all().column("aggregate_version").to_pylist())

        assert versions(one) == [1]
        assert versions(two) == [1, 2]
        assert versions(two, is_latest_only=True) == [2]
        assert versions(two, aggregate_types=["payment"]) == []
        assert ids(read_events(connection, "pod2", None, two)) == []
        assert len(ids(read_events(connection, "pod1", None, two, is_latest_only=True))) == 2
        assert ids(read_events(connection, "pod1", [], two)) == []
        assert has_reached(connection, "pod1", two)
        assert not has_reached(connection, "pod1", {0: Position(cut=2, chunk=1)})


def test_compaction_keeps_events_and_drops_files(own_lake: Lake) -> None:
    pod = FakePod()
    projection = own_lake.projection()
    for cut in range(6):
        projection.apply(pod.step(pod.cut(order()), since=cut))
    projection.close()
    before = own_lake.rows("select event_id, payload from lake.raw.events order by event_id")
    kept = compact(own_lake.catalog_dsn, own_lake.data_path)
    assert kept.files_after < kept.files_before
    assert kept.files_deleted == 0, "files that a query may be reading are kept for an hour"
    dropped = compact(own_lake.catalog_dsn, own_lake.data_path, keep_seconds=0)
    assert dropped.snapshots_expired > 0
    assert dropped.files_deleted > 0
    assert own_lake.rows("select event_id, payload from lake.raw.events order by event_id") == before
    projection.apply(pod.step(pod.cut(order()), since=6))
    assert own_lake.rows("select count(*) from lake.raw.events") == [(7,)]


def test_compaction_beside_a_consumer_loses_and_doubles_nothing(lake: Lake) -> None:
    pod = FakePod()
    works = [pod.step(pod.cut(order(), order()), since=cut) for cut in range(8)]
    done = threading.Event()

    def consume() -> None:
        projection = lake.projection()
        try:
            while (cut := projection.state("pod1").positions.get(0, START).cut) < len(works):
                with suppress(FencedError):
                    projection.apply(works[cut])
        finally:
            done.set()

    thread = threading.Thread(target=consume)
    thread.start()
    while not done.is_set():
        compact(lake.catalog_dsn, lake.data_path)
    thread.join()
    assert lake.rows("select count(*), count(distinct event_id) from lake.raw.events") == [(16, 16)]


def test_errors_do_not_show_the_password(tmp_path: Path) -> None:
    with pytest.raises(StackError) as caught:
        connect_lake("postgresql://somebody:hunter%402@127.0.0.1:1/nowhere", str(tmp_path))
    assert "hunter" not in str(caught.value)
    assert "nowhere" in str(caught.value)
    assert caught.value.__cause__ is None
