"""A pod's server is lost and restored from an earlier base backup: refused as it is, whole once its epoch is open."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.errors import EpochChangedError, LogDivergedError
from contracts.settings import PodSettings, Settings
from contracts.verdicts import Verdict
from derived.lake_connection import open_lake
from derived.retention import prune_outboxes
from derived.warehouse import build_warehouse
from reconcile.comparison_run import run_pairs
from stack.composition import session
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.looking.story.collecting import read_story
from stack.looking.story.reads import MARTS
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres
from streams.cuts import take_reconciler_cut
from streams.draining import drain_pod
from tests.integration.reconcile_world import open_shops, shop_in
from tests.streams_support import SHAPE

PASSWORDS = {role: f"{role}-password" for role in bootstrap.POD_ROLES}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A pod's server of its own, and its base backups."""

    postgres: EmbeddedPostgres
    backup: Path

    def pod(self) -> PodSettings:
        dsns = (self.postgres.dsn(role, PASSWORDS[role], bootstrap.POD_DATABASE) for role in bootstrap.POD_ROLES)
        owner, app, relay, reader = dsns
        return PodSettings(pod="pod1", owner_dsn=owner, app_dsn=app, relay_dsn=relay, reader_dsn=reader)

    def back_up(self) -> None:
        """Take a base backup while the server runs."""
        program = self.postgres._programs() / "pg_basebackup"
        command: list[str | Path] = [
            program,
            "-D",
            self.backup,
            "-X",
            "stream",
            "-c",
            "fast",
            "-d",
            self.postgres.superuser_dsn(),
        ]
        subprocess.run(command, check=True, capture_output=True)

    def lose_and_restore(self) -> None:
        """Kill the server, lose its files, and start it on the base backup."""
        process = self.postgres._process()
        assert process is not None
        process.kill()
        process.wait()
        data = self.postgres.data
        shutil.rmtree(data)
        shutil.copytree(self.backup, data)
        data.chmod(0o700)
        for path in (data, *data.rglob("*")):
            self.postgres.account.own(path)
        self.postgres.start()


@pytest.fixture
def server(session_folder: Path) -> Iterator[Server]:
    folder = session_folder / "restored"
    postgres = EmbeddedPostgres(name="restored", folder=folder, log=folder / "postgres.log", is_durable=False)
    try:
        postgres.start()
        bootstrap.prepare_pod(postgres.superuser_dsn(), PASSWORDS)
        yield Server(postgres=postgres, backup=folder / "base_backup")
    finally:
        postgres.stop()
        postgres.wipe()


def doubts(settings: Settings) -> list[str]:
    """Compare all pairs in both pods, copies and warehouse brought there first; return what is not consistent."""

    def build(cuts: object) -> dict[str, int]:
        result = build_warehouse(settings)
        assert result.test_failures == []
        return dict(result.cuts)

    real = build_reconcile_context(settings, build=build, lag_seconds_max=5)

    def lake_cut(connection: Any, pod: str) -> int:
        drain_everything(settings)
        return real.lake_cut(connection, pod)

    def log_cut(pod: str) -> int:
        drain_everything(settings)
        assert real.log_cut is not None
        return real.log_cut(pod)

    return [
        f"{result.pair} in {result.pod} is {result.verdict}: {result.reason} {result.sample[:1]}"
        for result in run_pairs(replace(real, lake_cut=lake_cut, log_cut=log_cut))
        if result.verdict is not Verdict.CONSISTENT
    ]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_pod_restored_from_a_base_backup_goes_on_and_everything_agrees(
    settings: Settings, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = replace(settings, pods=(server.pod(), settings.pods[1]))
    migrate_everything(system)
    with open_shops(system) as shops:
        for shop in shops:
            shop.everything()
    drain_everything(system)
    server.back_up()
    known = event_ids(system)
    lost = live_on(system)

    server.lose_and_restore()
    assert event_ids(system) == known, "what came after the base backup is gone"
    # Sold before anybody noticed; a comparison uses numbers again that cuts were published under.
    with shop_in(system, 700) as shop:
        shop.shipped()
        with take_reconciler_cut(system.pods[0].reader_dsn, SHAPE, registered_by="test"):
            pass
        for _ in range(9):
            shop.paid()
            with take_reconciler_cut(system.pods[0].reader_dsn, SHAPE, registered_by="test"):
                pass
    refused_as_yet(system)

    answer = opened(system, monkeypatch)
    assert answer["is_needed"] and answer["epoch"] and answer["base_cut"] > 0
    assert {event for (event,) in in_lake(system, "select event_id from lake.raw.retracted_events")} == lost
    with shop_in(system, 800) as shop:
        order, _, _ = shop.refunded()
    drain_everything(system)
    assert {event for (event,) in in_lake(system, "select event_id from lake.raw.events where pod = 'pod1'")} == (
        event_ids(system)
    )
    assert doubts(system) == []
    assert opened(system, monkeypatch)["is_needed"] is False
    explained(system, order.order_number)


def explained(system: Settings, order_number: str) -> None:
    """The story of an order of the new epoch, marts and journal with it, has nothing that stands out."""
    story = read_story(system, order_number)
    assert story.findings == []
    (warehouse,) = [section for section in story.sections if section.store == "warehouse"]
    accounts = {row["account"] for row in warehouse.tables["journal"]}
    assert {"sales", "refunds", "cash", "merchant_payable"} <= accounts
    assert sum(row["amount_micro"] for row in warehouse.tables["journal"]) == 0
    assert {name for name, rows in warehouse.tables.items() if rows} == set(MARTS)


def live_on(system: Settings) -> set[str]:
    """Do what the base backup will not know, all of it in every copy, marts and backup; return its events."""
    before = event_ids(system)
    with shop_in(system, 500) as shop:
        for _ in range(3):
            shop.refunded()
            drain_everything(system)
    assert doubts(system) == []
    lost = event_ids(system) - before
    prune_outboxes(system)
    return lost


def refused_as_yet(system: Settings) -> None:
    """Nobody publishes, prunes or compares before the epoch is open: what is lost is no difference to be repaired."""
    with pytest.raises(LogDivergedError, match="tieout open-epoch"):
        drain_pod(system.pods[0], system)
    with pytest.raises(EpochChangedError, match="tieout open-epoch"):
        prune_outboxes(system)
    results = run_pairs(build_reconcile_context(system), ["oltp_lake", "log_manifests"], ["pod1"])
    assert {result.verdict for result in results} == {Verdict.UNKNOWN}
    assert all("tieout open-epoch" in result.reason for result in results)


def opened(system: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run `tieout open-epoch pod1` and return its answer."""

    @contextmanager
    def stand_in(_progress: object) -> Iterator[Settings]:
        yield system

    monkeypatch.setattr(session, "open_session", stand_in)
    outcome = CliRunner().invoke(app, ["open-epoch", "pod1", "--json", "--yes"])
    if outcome.exception is not None:
        raise outcome.exception
    answer: dict[str, Any] = json.loads(outcome.stdout)
    return answer


def event_ids(settings: Settings) -> set[str]:
    with psycopg.connect(settings.pods[0].reader_dsn) as connection:
        return {str(row[0]) for row in connection.execute("select event_id::text from oltp.outbox").fetchall()}


def in_lake(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with open_lake(settings, read_only=True) as lake:
        return lake.execute(query).fetchall()
