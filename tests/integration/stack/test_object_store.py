"""A lake and its backup on an S3-compatible store: built, compared, damaged, brought back; and what refuses is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from contracts.errors import PropagationError, StackError
from contracts.object_store import ObjectFolder, ObjectStore
from contracts.settings import PodSettings, Settings
from contracts.verdicts import Verdict
from derived.lake_backup import read_index, restore
from derived.lake_compaction import compact
from derived.lake_connection import bounds_of, lake_place, open_lake
from derived.lake_files import lost_tables
from derived.lake_schema import start_anew
from derived.objects import names_below
from derived.querying import ask
from derived.retention import back_up_lake
from finance.closings import noted_closings
from reconcile.comparison_run import run_pairs
from stack.composition.comparison import build_reconcile_context
from stack.composition.migrations import migrate_everything
from stack.looking.headroom import limit_uses
from stack.scrubbing import scrubber
from tests.integration.reconcile_world import carrying, fill
from tests.object_store import SECRET, running_store

pytestmark = pytest.mark.timeout(400)

PAIRS = ("oltp_lake.order", "operational_finance.orders")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the store's objects: a bucket is a folder in it."""
    return tmp_path_factory.mktemp("store") / "objects"


@pytest.fixture(scope="module")
def store(objects: Path) -> Iterator[ObjectStore]:
    """A store with two buckets."""
    with running_store(objects, buckets=("lake", "backup")) as running:
        yield running


@pytest.fixture
def system(settings: Settings, store: ObjectStore) -> Settings:
    """Two pods with something in every table, their lake and its backup in buckets."""
    on_store = replace(
        settings,
        lake_data_path="s3://lake/books/2011/",
        lake_backup_path=ObjectFolder(address="s3://backup/books", store=store),
        object_store=store,
    )
    fill(on_store)
    return on_store


def verdicts(system: Settings) -> set[Verdict]:
    context = carrying(build_reconcile_context(system, lag_seconds_max=10), system, ("lake",))
    return {result.verdict for result in run_pairs(context, PAIRS)}


def orders(system: Settings) -> int:
    ((count,),) = ask(system, "select count(*) from orders").rows
    return int(str(count))


def orders_in(pod: PodSettings) -> int:
    with psycopg.connect(pod.reader_dsn) as connection:
        ((count,),) = connection.execute("select count(*) from oltp.orders").fetchall()
    return int(count)


@pytest.mark.in_turn("stores", seconds=49)
def test_a_lake_on_an_object_store_ties_and_comes_back(
    system: Settings, objects: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert verdicts(system) == {Verdict.CONSISTENT}
    built = orders(system)
    assert built == sum(map(orders_in, system.pods)) > 0
    parts = list((objects / "lake" / "books" / "2011" / "raw" / "events").rglob("*.parquet"))
    assert parts and not Path(system.var_dir.parent, "lake", "raw").exists()

    # The backup, read back from the store, and only what is new.
    segments = back_up_lake(system)
    assert {segment.pod for segment in segments} == {"pod1", "pod2"} and back_up_lake(system) == []
    assert names_below(system.lake_backup_path) == {"index.json", *(segment.file for segment in segments)}
    assert read_index(system.lake_backup_path) == segments and noted_closings(system.lake_backup_path) == []

    # Objects are gone, of a mart and of the events: nothing is compared as if they were there.
    (history, *_) = (objects / "lake" / "books" / "2011" / "intermediate" / "int_orders_history").rglob("*.parquet")
    for lost in (history, *parts):
        lost.unlink()
    assert lost_tables(lake_place(system)) == ["intermediate.int_orders_history"]
    assert verdicts(system) != {Verdict.CONSISTENT}

    # The backup brings the events back, and the next build computes all anew.
    with pytest.raises(PropagationError, match="not empty"):
        _restore(system, is_discarding=False)
    assert _restore(system, is_discarding=True) == segments
    assert verdicts(system) == {Verdict.CONSISTENT} and lost_tables(lake_place(system)) == []
    compact(system.catalog_dsn, system.lake_data_path, bounds=bounds_of(system))
    assert orders(system) == built

    assert not any("s3://" in use.name for use in limit_uses(system)), "a store has no disk that we could look at"
    written = [path.read_text(errors="replace") for path in system.var_dir.rglob("*") if path.is_file()]
    said = capfd.readouterr()
    assert written and not any(SECRET in text for text in (*written, said.out, said.err))


def _restore(system: Settings, *, is_discarding: bool):
    pods = [pod.pod for pod in system.pods]

    def discard(lake):
        start_anew(lake, pods=pods, partition_count=system.partition_count)

    return restore(
        system.catalog_dsn,
        system.lake_data_path,
        system.lake_backup_path,
        discarding=discard if is_discarding else None,
        bounds=bounds_of(system),
    )


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"secret": "wrong"}, "s3://lake/books", r"does not let this key in \(s3://lake, key AKIATEST"),
        ({"key_id": "nobody"}, "s3://lake/books", r"does not let this key in \(s3://lake, key nobody\)"),
        ({}, "s3://absent/books", r"has no such bucket \(s3://absent"),
        ({"endpoint": "http://127.0.0.1:9"}, "s3://lake/books", "does not answer as it should"),
    ],
)
def test_what_refuses_is_said_in_one_sentence(
    settings: Settings, store: ObjectStore, changed: dict[str, str], path: str, said: str
) -> None:
    other = replace(settings, lake_data_path=path, object_store=replace(store, **changed))
    with pytest.raises(StackError, match=said) as refused:
        migrate_everything(other)
    assert "\n" not in str(refused.value) and SECRET not in str(refused.value)


def test_the_secret_is_shown_nowhere(system: Settings, store: ObjectStore) -> None:
    assert SECRET not in scrubber(system)(f"HTTP 403 for {SECRET}")
    with open_lake(system, read_only=True) as lake:
        ((shown,),) = lake.execute("select secret_string from duckdb_secrets() limit 1").fetchall()
    assert SECRET not in shown and "redacted" in shown
