"""Systems that many tests begin with: made once by a pytest process, then copied for each test.

Belongs here: keeping one (databases as templates, the lake's folder, the log's keys), copying it, and what is in those
that several modules begin with.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import redis
from psycopg import sql

from bench.repairs import SEED
from bench.world import trade
from contracts.settings import Settings
from stack.migrations import migrate_everything
from stack.propagation import drain_everything
from stack.servers import bootstrap
from tests.conftest import Cluster
from tests.integration.reconcile_world import open_shops

Make = Callable[[Settings], None]
"""Puts into an empty system what it is to hold; leaves no connection open."""
DATABASES = {
    "control_dsn": "tieout_control",
    "catalog_dsn": "tieout_lake",
    "read_models_dsn": "tieout_read_models",
    "dagster_dsn": "tieout_dagster",
}
"""Setting -> the role that owns the database."""
PODS = ("pod1", "pod2")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A system whose stores nobody uses any more."""

    lake: Path
    databases: dict[str, str]
    """Setting, or pod -> the database that is copied."""
    oids: dict[str, int]
    """Pod -> the id that its database had. It is a part of its epoch, so that a copy with another one is a clone, whose
    cuts count for nothing."""
    log: dict[bytes, bytes]
    """Every key of the log with what Valkey's DUMP says of it."""


@dataclass(kw_only=True)
class SavedSystems:
    """The systems of this pytest process, by what made them."""

    cluster: Cluster
    pod_template: str
    log_url: str
    folder: Path
    made: dict[Make, Saved] = field(default_factory=dict)

    def copy(self, make: Make, folder: Path) -> tuple[Settings, list[str]]:
        """Return a copy of a system, its files in `folder`, and the names of its databases.

        They are to be dropped before the next copy is made: the pods of both have the same ids.
        """
        if make not in self.made:
            self.made[make] = self._save(make)
        saved = self.made[make]
        self._write_log(saved.log)
        shutil.copytree(saved.lake, folder / "lake")
        databases = self._created(saved.databases, saved.oids)
        settings = self._settings(folder, databases)
        with psycopg.connect(settings.catalog_dsn) as catalog:
            place = (settings.lake_data_path,)
            catalog.execute("update ducklake_metadata set value = %s where key = 'data_path'", place)
        return settings, list(databases.values())

    def _save(self, make: Make) -> Saved:
        folder = self.folder / f"saved-{len(self.made)}"
        (folder / "lake").mkdir(parents=True)
        self._write_log({})
        databases = self._created({**dict.fromkeys(DATABASES, "template0"), **dict.fromkeys(PODS, self.pod_template)})
        make(self._settings(folder, databases))
        with redis.Redis.from_url(self.log_url) as log:
            keys = {key: log.dump(key) for key in log.scan_iter()}
        oids = {pod: self._oid(databases[pod]) for pod in PODS}
        kept = self._created(databases)
        for database in databases.values():
            bootstrap.drop_database(self.cluster.superuser_dsn(), database)
        return Saved(lake=folder / "lake", databases=kept, oids=oids, log=keys)

    def _write_log(self, keys: Mapping[bytes, bytes]) -> None:
        with redis.Redis.from_url(self.log_url) as log:
            log.flushall()
            for key, value in keys.items():
                log.restore(key, 0, value)

    def _created(self, templates: Mapping[str, str], oids: Mapping[str, int] | None = None) -> dict[str, str]:
        """Create databases from templates, pods with these ids; return setting, or pod -> name."""
        return {key: self._create(key, template, (oids or {}).get(key)) for key, template in templates.items()}

    def _create(self, key: str, template: str, oid: int | None) -> str:
        owner, name = DATABASES.get(key, bootstrap.POD_ROLES[0]), f"saved_{next(self.cluster.numbers)}"
        statement = sql.SQL("create database {} owner {} template {} strategy file_copy {}").format(
            sql.Identifier(name),
            sql.Identifier(owner),
            sql.Identifier(template),
            sql.SQL("oid {}").format(oid) if oid else sql.SQL(""),
        )
        with psycopg.connect(self.cluster.superuser_dsn(), autocommit=True) as server:
            server.execute(statement)
        if key in PODS:
            bootstrap.allow_connections(self.cluster.superuser_dsn(), name, bootstrap.POD_ROLES)
        return name

    def _oid(self, database: str) -> int:
        with psycopg.connect(self.cluster.superuser_dsn()) as server:
            rows = server.execute("select oid from pg_database where datname = %s", (database,)).fetchall()
        return int(rows[0][0])

    def _settings(self, folder: Path, databases: Mapping[str, str]) -> Settings:
        def dsn(key: str) -> str:
            return self.cluster.dsn(DATABASES[key], databases[key])

        return Settings(
            var_dir=folder / "var",
            pods=tuple(self.cluster.pod_settings(pod, databases[pod]) for pod in PODS),
            control_dsn=dsn("control_dsn"),
            catalog_dsn=dsn("catalog_dsn"),
            read_models_dsn=dsn("read_models_dsn"),
            dagster_dsn=dsn("dagster_dsn"),
            log_url=self.log_url,
            lake_data_path=f"{folder / 'lake'}/",
            lake_backup_path=folder / "backup",
            lake_threads=1,
        )


def traded(settings: Settings) -> None:
    """Two pods with some trade, in every copy."""
    migrate_everything(settings)
    trade(settings, orders=30, seed=SEED, processes=0)


def with_every_fact(settings: Settings) -> None:
    """Two pods with something in every table, and every copy up to date."""
    migrate_everything(settings)
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
    drain_everything(settings)
