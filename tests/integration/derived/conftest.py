"""A migrated lake and read models for every test, cloned from templates: migrating each time would cost seconds.

All lakes of a session share one data folder; their files have random names, and only the catalog says which are whose.
But they share the template's files: what removes old files at once needs `own_lake`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from contracts.ownership import READ_MODELS, SERVED_TABLES
from contracts.settings import Settings
from derived.keyed.projection import KeyedProjection
from derived.lake import LakeProjection, connect_lake, migrate_lake
from derived.lake_connection import Bounds
from derived.read_models import migrate
from stack.servers import bootstrap
from streams.projection import Work
from tests.conftest import Cluster, MakeDatabase
from tests.derived_work import PARTITIONS
from tests.values import pod_without_server, settings_of

PODS = ("pod1", "pod2")
TABLES = SERVED_TABLES
Contents = dict[str, list[tuple[object, ...]]]
ONE_THREAD = Bounds(threads=1)
"""A second thread costs a connection more CPU than all else that it does here."""


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A migrated lake."""

    catalog_dsn: str
    data_path: str

    def projection(self) -> LakeProjection:
        return LakeProjection(self.catalog_dsn, self.data_path, bounds=ONE_THREAD)

    def apply(self, work: Work) -> None:
        projection = self.projection()
        projection.apply(work)
        projection.close()

    def connect(self) -> duckdb.DuckDBPyConnection:
        return connect_lake(self.catalog_dsn, self.data_path, read_only=True, bounds=ONE_THREAD)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.connect() as connection:
            return connection.execute(query).fetchall()


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Lake and read models, both migrated."""

    settings: Settings
    lake: Lake
    models: Mapping[str, KeyedProjection]
    """By the name of the copy."""

    @property
    def dsn(self) -> str:
        return self.settings.read_models_dsn

    @property
    def views(self) -> tuple[KeyedProjection, ...]:
        return tuple(self.models.values())

    @property
    def account(self) -> KeyedProjection:
        return self.models["account_view"]

    @property
    def fulfillment(self) -> KeyedProjection:
        return self.models["fulfillment_view"]

    @property
    def sales(self) -> KeyedProjection:
        return self.models["merchant_sales"]

    def apply(self, work: Work, *, also_lake: bool = False) -> None:
        if also_lake:
            self.lake.apply(work)
        for view in self.views:
            view.apply(work)

    def contents(self) -> Contents:
        with psycopg.connect(self.dsn) as connection:
            return {
                table: sorted(connection.execute(f"select * from read_models.{table}".encode()).fetchall(), key=repr)
                for table in TABLES
            }

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def lake_template(postgres: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a migrated catalog database, and the folder of its data."""
    database, folder = postgres.create("template_lake", owner="tieout_lake"), tmp_path_factory.mktemp("lake")
    migrate_lake(postgres.dsn("tieout_lake", database), str(folder), pods=PODS, partition_count=PARTITIONS)
    return database, folder


@pytest.fixture
def lake(postgres: Cluster, lake_template: tuple[str, Path]) -> Iterator[Lake]:
    """An empty lake for pod1 and pod2."""
    template, folder = lake_template
    database = postgres.create("lake", owner="tieout_lake", template=template)
    yield Lake(catalog_dsn=postgres.dsn("tieout_lake", database), data_path=str(folder))
    postgres.drop(database)


@pytest.fixture
def own_lake(make_database: MakeDatabase, tmp_path: Path) -> Lake:
    """An empty lake that shares no file."""
    made = Lake(catalog_dsn=make_database("tieout_lake"), data_path=str(tmp_path / "lake"))
    migrate_lake(made.catalog_dsn, made.data_path, pods=PODS, partition_count=PARTITIONS)
    return made


@pytest.fixture(scope="session")
def read_models_template(postgres: Cluster) -> str:
    """The name of a migrated read models database."""
    connecting = (bootstrap.WITNESS_ROLE,)
    database = postgres.create("template_read_models", owner="tieout_read_models", connecting=connecting)
    migrate(postgres.dsn("tieout_read_models", database))
    return database


@pytest.fixture
def stores(postgres: Cluster, read_models_template: str, lake: Lake, tmp_path: Path) -> Iterator[Stores]:
    """Empty read models and an empty lake; the pods of the settings do not exist."""
    connecting = (bootstrap.WITNESS_ROLE,)
    database = postgres.create(
        "read_models", owner="tieout_read_models", template=read_models_template, connecting=connecting
    )
    settings = settings_of(
        tmp_path,
        pods=map(pod_without_server, PODS),
        catalog_dsn=lake.catalog_dsn,
        read_models_dsn=postgres.dsn("tieout_read_models", database),
        read_models_witness_dsn=postgres.dsn(bootstrap.WITNESS_ROLE, database),
        lake_data_path=lake.data_path,
        lake_threads=1,
    )
    models: dict[str, KeyedProjection] = {copy.name: import_module(copy.module).build(settings) for copy in READ_MODELS}
    yield Stores(settings=settings, lake=lake, models=models)
    for model in models.values():
        model.close()
    postgres.drop(database)
