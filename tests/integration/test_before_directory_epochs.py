"""What the last release without directory epochs left in outbox, lake, parked table and backup stays."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from alembic import command

from derived import lake_schema
from derived.lake import LakeProjection, connect_lake, migrate_lake
from derived.lake_backup import Segment, back_up, events_from_backup, read_index, restore, write_index
from derived.lake_connection import open_beside
from oltp.store.migrate import migrate
from oltp.store.tables import outbox
from streams.cuts import register_cut
from streams.reissue import reissued_cuts
from streams.valkey_log import ValkeyLog
from tests.conftest import Cluster, MakeDatabase
from tests.derived_work import PARTITIONS, FakePod, key_of, order
from tests.streams_support import SHAPE, make_relay

OF_THEN = """pod, epoch, cut, "partition", "position", event_id, merchant_id, aggregate_type, aggregate_id,
    aggregate_version, event_type, schema_version, occurred_at, recorded_at, causation_id, correlation_id, traceparent,
    payload, chunk"""
FIGURES_OF_THEN = """
    select count(*), coalesce(sum(md5_number_lower(concat_ws(chr(31), event_id, pod, epoch, cut, "partition", chunk,
        "position", merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type, schema_version,
        epoch_us(occurred_at), epoch_us(recorded_at), correlation_id, payload))::hugeint), 0)::varchar
    from lake.raw.events"""
EVENT_OF_THEN = """
    insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type,
                             schema_version, occurred_at, correlation_id, payload)
    values (gen_random_uuid(), 'shop', 'thing', 'a', %(version)s, 'thing_changed', 1, now(), gen_random_uuid(), '{}')"""
FIRST = "select distinct directory_epoch from lake.raw.events"


class LakeOfThen:
    """A lake with a cut of events, one parked event, and a backup, all as the last release wrote them."""

    def __init__(self, catalog_dsn: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.catalog_dsn, self.data_path, self.backup = catalog_dsn, str(folder / "lake"), folder / "backup"
        self.pod = FakePod()
        self.entries = self.pod.cut(order(), order())
        self.parked = self.pod.event(order())
        with monkeypatch.context() as then:
            then.setattr(lake_schema, "ADDITIONS", ())
            self.migrate()
        with connect_lake(catalog_dsn, self.data_path) as lake:
            for entry in self.entries:
                lake.register("incoming", entry.events)
                lake.execute(
                    f"insert into lake.raw.events ({OF_THEN}) select {OF_THEN.removesuffix(', chunk')}, 0 from incoming"
                )
            lake.execute("update lake.raw.fence_lake_pod1 set epoch = ?, cut = 1", [self.pod.epoch])
            said = {name: value for name, value in self.parked.items() if name != "directory_epoch"}
            lake.execute(
                "insert into lake.raw.parked values ('pod1', ?, ?, 2, ?, ?, 'unreadable', now())",
                [key_of(order()), said["event_id"], said["position"], msgspec.json.encode(said).decode()],
            )
            self._back_up(lake)

    def migrate(self) -> None:
        """Bring the lake to the newest schema, once it is no longer patched."""
        migrate_lake(self.catalog_dsn, self.data_path, pods=("pod1",), partition_count=PARTITIONS)

    def _back_up(self, lake: Any) -> None:
        ((events, checksum),) = lake.execute(FIGURES_OF_THEN).fetchall()
        (self.backup / "pod1").mkdir(parents=True)
        lake.execute(f"copy (from lake.raw.events) to '{self.backup / 'pod1' / 'cuts.parquet'}' (format parquet)")
        segment = Segment(
            pod="pod1", epoch=self.pod.epoch, from_cut=1, through_cut=1, events=events, checksum=checksum,
            file="pod1/cuts.parquet",
        )  # fmt: skip
        write_index(self.backup, [segment])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with connect_lake(self.catalog_dsn, self.data_path) as lake:
            return lake.execute(query).fetchall()


@pytest.fixture
def then(make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeOfThen:
    return LakeOfThen(make_database("tieout_lake"), tmp_path, monkeypatch)


def test_a_lake_of_then_is_read_written_and_backed_up_on(then: LakeOfThen) -> None:
    before = then.rows(f"select {OF_THEN} from lake.raw.events order by event_id")
    then.migrate()
    then.migrate()
    assert then.rows(f"select {OF_THEN} from lake.raw.events order by event_id") == before
    assert then.rows(FIRST) == [(1,)]
    projection = LakeProjection(then.catalog_dsn, then.data_path)
    (waiting,) = projection.parked_events("pod1")
    assert waiting.event == then.parked, "with the first epoch of the directory"
    then.pod.cut_number = 1
    then.rows("delete from lake.raw.parked")
    moved = then.pod.event(order(), cut=2, directory_epoch=2)
    then.pod.cut_number = 2
    projection.apply(then.pod.step(then.pod.entries([moved]), since=1))
    projection.close()
    assert then.rows("select cut, directory_epoch from lake.raw.events order by all") == [(1, 1), (1, 1), (2, 2)]
    (segment,) = back_up(then.catalog_dsn, then.data_path, then.backup)
    assert (segment.from_cut, segment.events) == (2, 1)


def test_a_backup_of_then_holds_what_its_index_says(
    then: LakeOfThen, make_database: MakeDatabase, tmp_path: Path
) -> None:
    events = events_from_backup(then.backup, "pod1", [1])
    assert events.column("directory_epoch").to_pylist() == [1, 1]
    catalog, data_path = make_database("tieout_lake"), str(tmp_path / "restored")
    migrate_lake(catalog, data_path, pods=("pod1",), partition_count=PARTITIONS)
    restore(catalog, data_path, then.backup)
    with connect_lake(catalog, data_path) as restored:
        assert restored.execute(FIGURES_OF_THEN).fetchall() == [
            (segment.events, segment.checksum) for segment in read_index(then.backup)
        ]
        assert restored.execute(FIRST).fetchall() == [(1,)]


def test_a_backup_says_the_directory_epoch_too(then: LakeOfThen) -> None:
    then.migrate()
    then.rows("delete from lake.raw.parked")
    then.rows("update lake.raw.events set directory_epoch = 2")
    (then.backup / "index.json").unlink()
    (segment,) = back_up(then.catalog_dsn, then.data_path, then.backup)
    assert [(segment.events, segment.checksum)] != then.rows(FIGURES_OF_THEN)
    with open_beside() as connection:
        stored = connection.execute(f"select distinct directory_epoch from '{then.backup / segment.file}'").fetchall()
    assert stored == [(2,)]


def test_an_outbox_of_then_gives_the_same_cuts(
    make_database: MakeDatabase, postgres: Cluster, log: ValkeyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was registered before the migration is published after it, with entries like those before."""
    dsn = make_database()
    with monkeypatch.context() as then:
        then.setattr(command, "upgrade", lambda config, _head, upgrade=command.upgrade: upgrade(config, "0013"))
        migrate(dsn)
    database = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])

    def insert(version: int) -> None:
        with psycopg.connect(postgres.superuser_dsn(database)) as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute(EVENT_OF_THEN, {"version": version})

    insert(1)
    with psycopg.connect(dsn, autocommit=True) as connection:
        register_cut(connection, SHAPE, registered_by="test")
    migrate(dsn)
    insert(2)
    assert "directory_epoch" in outbox.columns
    with closing(make_relay(dsn, log)) as relay:
        relay.drain()
    assert [manifest.events for manifest in log.manifests("pod1", 0, limit=9)] == [1, 1]
    reissued = list(reissued_cuts(postgres.pod_settings("pod1", database), [1, 2]))
    assert [cut.events.column("directory_epoch").to_pylist() for cut in reissued] == [[1], [1]]
    for cut, manifest in zip(reissued, log.manifests("pod1", 0, limit=9), strict=True):
        assert cut.manifest.says_the_same_as(manifest)
