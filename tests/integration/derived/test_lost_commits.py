"""The reply to a commit of the lake is lost: DuckLake deletes the files, and the catalog names them all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from urllib.parse import unquote

import duckdb
import pytest

import derived.lake
from contracts.errors import PropagationError, StackError
from contracts.ids import uuid7
from derived import lake_files
from derived.lake import LakeProjection, lake_positions
from derived.lake_compaction import compact
from derived.lake_files import KEEP_SECONDS, UNCONFIRMED, is_conflict
from derived.lake_repair import replace_events
from streams.projection import FencedError, Position
from streams.reissue import REISSUED_SCHEMA
from tests.derived_work import FakePod, order
from tests.integration.derived.conftest import Lake
from tests.lost_replies import losing_way


def second_names(lake: Lake) -> list[str]:
    folder = Path(lake.data_path, UNCONFIRMED)
    return [name for commit in folder.iterdir() for name in os.listdir(commit)] if folder.exists() else []


def age(lake: Lake, seconds: float) -> None:
    for commit in Path(lake.data_path, UNCONFIRMED).iterdir():
        os.utime(commit, (time.time() - seconds, time.time() - seconds))


def events(lake: Lake) -> list[tuple[object, ...]]:
    return lake.rows("select event_id, payload from lake.raw.events order by cut, position")


def filled(lake: Lake, cuts: int) -> FakePod:
    pod, projection = FakePod(), lake.projection()
    for since in range(cuts):
        projection.apply(pod.step(pod.cut(order(), order()), since=since))
    projection.close()
    return pod


def test_a_step_whose_commit_was_not_answered_keeps_its_files(own_lake: Lake) -> None:
    pod = filled(own_lake, 1)
    with losing_way(own_lake.catalog_dsn) as way:
        projection = LakeProjection(way.dsn, own_lake.data_path)
        projection.state("pod1")
        work = pod.step(pod.cut(order()), since=1)
        way.lose()
        with pytest.raises(PropagationError, match="could not be used"):
            projection.apply(work)
        assert way.lost == 1
        # The consumer asks again where it stands, as after every error.
        assert set(projection.state("pod1").positions.values()) == {Position(cut=2, chunk=0)}
        with pytest.raises(FencedError):
            projection.apply(work)
        projection.close()

    assert len(events(own_lake)) == 3
    projection = own_lake.projection()
    projection.apply(pod.step(pod.cut(order()), since=2))
    projection.close()
    assert len(events(own_lake)) == 4


def test_a_process_that_was_killed_after_the_reply_was_lost_leaves_its_files_to_the_next(
    own_lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = filled(own_lake, 1)
    monkeypatch.setattr(lake_files, "put_back_files", lambda place: [])
    with losing_way(own_lake.catalog_dsn) as way:
        projection = LakeProjection(way.dsn, own_lake.data_path)
        projection.state("pod1")
        way.lose()
        with pytest.raises(PropagationError):
            projection.apply(pod.step(pod.cut(order()), since=1))
    gone = [name for name in second_names(own_lake) if not original(own_lake, name).exists()]
    assert len(gone) == 3, "events, cuts and fence are gone"

    # Whoever opens it next, also only to read.
    assert len(events(own_lake)) == 3
    assert [name for name in gone if not original(own_lake, name).exists()] == []
    assert second_names(own_lake), "a commit that failed may still come to stand"
    age(own_lake, KEEP_SECONDS + 1)
    assert len(events(own_lake)) == 3
    assert second_names(own_lake) == []


def original(lake: Lake, name: str) -> Path:
    return Path(lake.data_path, unquote(name))


def compact_it(lake: Lake, catalog_dsn: str) -> None:
    compact(catalog_dsn, lake.data_path)


def repair_it(lake: Lake, catalog_dsn: str) -> None:
    # One of two events of a file is replaced, so a file of deletions is written as well.
    with lake.connect() as connection:
        rows = (
            connection.execute("select * from lake.raw.events order by cut desc limit 1").to_arrow_reader().read_all()
        )
    table = rows.select(REISSUED_SCHEMA.names).cast(REISSUED_SCHEMA)
    right = table.set_column(table.schema.get_field_index("payload"), "payload", [[str(uuid7())] * table.num_rows])
    replace_events(catalog_dsn, lake.data_path, "pod1", right)


@pytest.mark.parametrize("write", [compact_it, repair_it])
def test_other_writers_lose_nothing_at_any_of_their_commits(own_lake: Lake, write: Callable[[Lake, str], None]) -> None:
    pod, lost = filled(own_lake, 2), 0
    with losing_way(own_lake.catalog_dsn) as way:
        for skipped in count():
            way.lose(skipping=skipped)
            with suppress(duckdb.Error, PropagationError, StackError):
                write(own_lake, way.dsn)
            assert len(events(own_lake)) == 2 * pod.cut_number
            if way.lost == lost:
                break
            lost = way.lost
            # Something to do for the next one.
            own_lake.apply(pod.step(pod.cut(order(), order()), since=pod.cut_number - 1))
    assert lost > 1
    with own_lake.connect() as connection:
        assert {position.cut for position in lake_positions(connection, "pod1").values()} == {pod.cut_number}


def test_a_commit_that_was_refused_leaves_no_second_names(own_lake: Lake) -> None:
    pod = filled(own_lake, 1)
    one, other = own_lake.projection(), own_lake.projection()
    work = pod.step(pod.cut(order()), since=1)

    def overtake(*_: object) -> None:
        other.apply(work)

    with pytest.MonkeyPatch.context() as patch:
        append = derived.lake._append_events
        calls = iter([overtake, lambda *_: None])
        patch.setattr(derived.lake, "_append_events", lambda *given: (next(calls)(), append(*given)))
        with pytest.raises(FencedError):
            one.apply(work)
    assert len(events(own_lake)) == 3
    assert second_names(own_lake) == []


def test_a_commit_that_others_overtook_is_a_conflict() -> None:
    overtaken = "Failed to commit DuckLake transaction. Exceeded the maximum retry count of 10"
    assert is_conflict(duckdb.TransactionException(overtaken))
    assert is_conflict(duckdb.TransactionException("Transaction conflict - attempting to delete from table"))
    assert not is_conflict(duckdb.TransactionException("server closed the connection unexpectedly"))
