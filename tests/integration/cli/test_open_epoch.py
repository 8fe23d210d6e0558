"""A pod goes on from a database that was restored, moved or replaced: after `tieout open-epoch`, and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.errors import EpochChangedError, LogDivergedError, PropagationError, RelayBusyError
from contracts.settings import Settings
from contracts.sightings import KeptSighting
from contracts.verdicts import Verdict
from derived.builds import building, latest_build, record_cut_vector
from derived.epoch_opening import EpochOpener, EpochPlan, StepHook
from derived.lake import cut_vector
from derived.lake_backup import back_up, read_index, restore, verified_cuts
from derived.lake_connection import open_lake
from derived.retention import prune_outboxes
from oltp.commands.execute import build_command_pod
from reconcile.comparison_run import run_pairs
from reconcile.sightings import newest_sightings
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS, build_projection
from stack.composition.witnessing import build_witnesses
from stack.servers import bootstrap
from streams.cuts import last_cut, register_cut, take_reconciler_cut
from streams.draining import drain_pod
from streams.lag import observe
from streams.logs import build_log
from streams.outbox_reading import RELAY_LOCK
from tests.conftest import Cluster, MakeDatabase, MakePod
from tests.integration.reconcile_world import VIEW_PAIRS, Shop, carrying, propagate, shop_in
from tests.streams_support import SHAPE, Crash, crash_at

ALL = PROJECTIONS
VIEWS = ALL[1:]
PAIRS = ("oltp_lake", "log_manifests", *VIEW_PAIRS)
STEPS = ("record", "log", *PROJECTIONS, "backup", "complete")

Copy = Callable[[Settings], Settings]


@pytest.fixture
def copy_of(postgres: Cluster) -> Iterator[Copy]:
    """A function that copies pod1's database as it is now, and returns settings in which pod1 is that copy."""
    made: list[str] = []

    def copy(settings: Settings) -> Settings:
        present = str(psycopg.conninfo.conninfo_to_dict(settings.pods[0].owner_dsn)["dbname"])
        database = postgres.create("copy", owner=bootstrap.POD_ROLES[0], template=present)
        made.append(database)
        bootstrap.allow_connections(postgres.superuser_dsn(), database, bootstrap.POD_ROLES)
        return replace(settings, pods=(postgres.pod_settings("pod1", database), settings.pods[1]))

    yield copy
    for database in made:
        bootstrap.drop_database(postgres.superuser_dsn(), database)


@contextmanager
def opener(settings: Settings, step: StepHook = lambda name: None) -> Iterator[EpochOpener]:
    views: list[Any] = [build_projection(name, settings) for name in VIEWS]
    with closing(build_log(settings)) as log:
        yield EpochOpener(pod=settings.pods[0], settings=settings, log=log, views=views, opened_by="a test", step=step)
    for view in views:
        view.close()


def planned(settings: Settings) -> EpochPlan:
    with opener(settings) as present:
        return present.plan()


def opened(settings: Settings, *, is_from_nothing_allowed: bool = False) -> str | None:
    with opener(settings) as present:
        return present.open(is_from_nothing_allowed=is_from_nothing_allowed).epoch


def events_taken_back(plan: EpochPlan) -> dict[str, int | None]:
    return {copy.copy: copy.events for copy in plan.copies}


def in_pod(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(settings.pods[0].reader_dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def in_lake(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    with open_lake(settings, read_only=True) as lake:
        return lake.execute(query).fetchall()


def event_ids(settings: Settings) -> set[str]:
    return {row[0] for row in in_pod(settings, "select event_id::text from oltp.outbox")}


def lake_ids(settings: Settings, table: str = "events") -> list[str]:
    return [row[0] for row in in_lake(settings, f"select event_id from lake.raw.{table} where pod = 'pod1'")]


def newest_cut(settings: Settings) -> int:
    with psycopg.connect(settings.pods[0].reader_dsn) as connection:
        newest = last_cut(connection)
        return newest.cut if newest else 0


def check_everything_agrees(settings: Settings, pods: Sequence[str] = ("pod1", "pod2")) -> None:
    real = build_reconcile_context(settings, lag_seconds_max=10)

    results = run_pairs(carrying(real, settings, ALL), PAIRS, pods)
    wrong = [(r.pair, r.pod, r.verdict, r.reason, r.sample[:2]) for r in results if r.verdict is not Verdict.CONSISTENT]
    assert wrong == []
    assert sum(result.compared for result in results) > 30


def built(settings: Settings) -> None:
    """Record a complete build at what the lake has, without running dbt."""
    with building(settings) as build:
        build.is_complete = True


@pytest.mark.timeout(300)
def test_a_restored_database_goes_on_after_its_epoch_is_opened(
    system: Settings, copy_of: Copy, make_database: MakeDatabase, tmp_path: Path
) -> None:
    with shop_in(system, 100) as shop:
        standing = shop.order()
    drain_everything(system)
    base = newest_cut(system)
    restored = copy_of(system)
    common = event_ids(restored)
    _live_on(system, standing.order_id)
    lost = event_ids(system) - common
    with shop_in(restored, 200) as shop:
        shop.shipped()

    _refused_as_yet(restored)
    plan = planned(restored)
    assert (plan.is_needed, plan.base_cut, plan.forgotten_cuts) == (True, base, 0)
    taken = events_taken_back(plan)
    assert taken["log"] == len(lost) > int(taken["lake"] or 0) == int(taken["backup"] or 0) > 0
    assert event_ids(restored).isdisjoint(lost) and set(lake_ids(restored)) & lost, "a plan changes nothing"

    _crash_everywhere(restored)
    epoch = opened(restored)
    assert epoch is not None
    assert opened(restored) is None and planned(restored).is_needed is False

    # Nothing is lost, also of what only the log had; nothing is kept twice.
    assert sorted(lake_ids(restored, "retracted_events")) == sorted(lost)
    assert set(lake_ids(restored)) == common
    assert {row[0] for row in in_lake(restored, "select retracted_by from lake.raw.retracted_events")} == {epoch}
    assert in_lake(restored, "select distinct cut, epoch from lake.raw.fence_lake_pod1") == [(base, epoch)]
    _check_next_build(restored, base)

    with shop_in(restored, 300) as shop:
        shop.refunded()
    drain_everything(restored)
    assert set(lake_ids(restored)) == event_ids(restored)
    assert in_lake(restored, f"select distinct epoch from lake.raw.events where pod = 'pod1' and cut > {base}") == [
        (epoch,)
    ]
    check_everything_agrees(restored)
    _check_backup(restored, base, epoch, make_database, tmp_path)


def _live_on(system: Settings, order_id: str) -> None:
    """What the restored database will not know: in all copies, in none but the log, and in a build and a backup."""
    with shop_in(system, 500) as shop:
        shop.cancel(order_id)
        drain_everything(system)
        shop.refunded()
        drain_everything(system)
        back_up(system.catalog_dsn, system.lake_data_path, system.lake_backup_path)
        built(system)
        shop.paid()
        propagate(system, system.pods[0], VIEWS[:1])


def _refused_as_yet(restored: Settings) -> None:
    with pytest.raises(EpochChangedError, match="tieout open-epoch"):
        drain_pod(restored.pods[0], restored)
    with (
        pytest.raises(EpochChangedError, match="tieout open-epoch"),
        take_reconciler_cut(restored.pods[0].reader_dsn, SHAPE, registered_by="test"),
    ):
        pass


def _crash_everywhere(restored: Settings) -> None:
    """Crash at one step after the other; each attempt begins anew, and nobody publishes in between."""
    for name in STEPS:
        with pytest.raises(Crash), opener(restored, crash_at(name)) as present:
            present.open()
        with pytest.raises(EpochChangedError, match="tieout open-epoch"):
            drain_pod(restored.pods[0], restored)
    assert in_pod(restored, "select count(*), count(completed_at) from oltp.epochs") == [(1, 0)]


def _check_next_build(restored: Settings, base: int) -> None:
    with open_lake(restored) as lake:
        latest = latest_build(lake)
        assert latest is not None and latest.cuts["pod1"] == base and latest.data_at["pod1"] is not None
        assert cut_vector(lake)["pod1"] == base
        following = record_cut_vector(lake)
    assert following.pods["pod1"].since_cut == base
    assert following.pods["pod2"].since_cut == following.pods["pod2"].cut


def _check_backup(restored: Settings, base: int, epoch: str, make_database: MakeDatabase, tmp_path: Path) -> None:
    """The backup goes on, a lake restored from it is equal, and what was taken back is still there."""
    prune_outboxes(restored)
    folder = Path(str(restored.lake_backup_path))
    assert verified_cuts(folder)["pod1"] == newest_cut(restored)
    mine = [segment for segment in read_index(folder) if segment.pod == "pod1"]
    retracted = [segment for segment in mine if segment.retracted_by is not None]
    assert retracted and {segment.retracted_by for segment in retracted} == {epoch}
    assert len({segment.file for segment in mine}) == len(mine)
    assert all((folder / segment.file).exists() for segment in mine)

    empty = replace(restored, catalog_dsn=make_database("tieout_lake"), lake_data_path=f"{tmp_path}/restored/")
    migrate_everything(empty)
    restore(empty.catalog_dsn, empty.lake_data_path, folder)
    assert sorted(lake_ids(empty)) == sorted(lake_ids(restored))
    assert in_lake(empty, "select epoch, base_cut from lake.raw.epochs") == [(epoch, base)]
    assert back_up(empty.catalog_dsn, empty.lake_data_path, folder) == []


@pytest.mark.long
def test_a_database_that_was_moved_as_it_is_loses_nothing(system: Settings, copy_of: Copy) -> None:
    moved = copy_of(system)
    before = sorted(lake_ids(moved))
    with closing(build_log(moved)) as log:
        generation = log.tail("pod1", 1).generation
        plan = planned(moved)
        assert plan.is_needed and plan.base_cut == newest_cut(system) and plan.forgotten_cuts == 0
        assert set(events_taken_back(plan).values()) == {0, None}
        epoch = opened(moved)
        assert log.tail("pod1", 1).generation == generation
    assert sorted(lake_ids(moved)) == before and lake_ids(moved, "retracted_events") == []

    # A copy that is behind crosses the opening on its own, exactly there.
    with shop_in(moved, 300) as shop:
        shop.paid()
    drain_everything(moved)
    assert set(lake_ids(moved)) == event_ids(moved)
    check_everything_agrees(moved, ["pod1"])
    with closing(build_log(moved)) as log:
        (first,) = log.manifests("pod1", plan.base_cut, limit=1)
    assert plan.base is not None and (first.epoch, first.follows_epoch) == (epoch, plan.base.epoch)

    # Set back within the same epoch: its last cuts are gone, and their events come again.
    with psycopg.connect(moved.pods[0].owner_dsn) as connection:
        connection.execute("delete from oltp.cuts where cut > %s", (plan.base_cut,))
    with pytest.raises(LogDivergedError, match="tieout open-epoch"):
        drain_pod(moved.pods[0], moved)
    (unsaid,) = run_pairs(build_reconcile_context(moved), ["oltp_lake.merchant"], ["pod1"])
    assert unsaid.verdict is Verdict.UNKNOWN and "set back" in unsaid.reason, "no difference is made of what is lost"
    again = opened(moved)
    assert again not in (None, epoch)
    drain_everything(moved)
    assert set(lake_ids(moved)) == event_ids(moved) and len(lake_ids(moved)) == len(event_ids(moved))
    check_everything_agrees(moved, ["pod1"])
    assert in_lake(moved, "select epoch from lake.raw.epochs where retracted_at is null") == [(again,)]


@pytest.mark.long
def test_a_copy_that_was_behind_crosses_the_opening(system: Settings, copy_of: Copy) -> None:
    with shop_in(system, 100) as shop:
        shop.paid()
    drain_pod(system.pods[0], system)
    moved = copy_of(system)
    with shop_in(system, 500) as shop:
        shop.paid()
    propagate(system, system.pods[0], VIEWS[:1])
    # The lake and one view have not even the base; the other view is beyond it.
    opened(moved)
    for name in ALL:
        projection: Any = build_projection(name, moved)
        with closing(build_log(moved)) as log, closing(projection):
            assert observe(projection, "pod1", log).state in ("behind", "current")
    with shop_in(moved, 300) as shop:
        shop.shipped()
    drain_everything(moved)
    assert set(lake_ids(moved)) == event_ids(moved)
    check_everything_agrees(moved, ["pod1"])


@pytest.mark.long
def test_another_database_needs_a_word_more(system: Settings, make_pod: MakePod, run: Callable[..., Any]) -> None:
    other = replace(system, pods=(make_pod("pod1"), system.pods[1]))
    before = lake_ids(system)

    opened = partial(run, "open-epoch", "pod1", "--yes", on=other, code=0)
    plan = opened("--dry-run")
    assert (plan["is_needed"], plan["base_cut"], plan["epoch"]) == (True, 0, None)
    with pytest.raises(PropagationError, match="--from-nothing"):
        opened()
    with psycopg.connect(other.pods[0].relay_dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s, %s)", RELAY_LOCK)
        with pytest.raises(RelayBusyError, match="tieout down"):
            opened("--from-nothing")
    assert lake_ids(other) == before, "a refusal changes nothing"

    done = opened("--from-nothing")
    assert done["epoch"] and {copy["copy"] for copy in done["copies"]} == {"log", *ALL, "backup"}
    assert lake_ids(other) == [] and sorted(lake_ids(other, "retracted_events")) == sorted(before)
    assert opened()["is_needed"] is False
    with build_command_pod(other.pods[0]) as pod:
        Shop(pod, "united-kingdom").paid()
    drain_everything(other)
    assert set(lake_ids(other)) == event_ids(other)
    check_everything_agrees(other, ["pod1"])


def test_no_witness_reports_an_opening(system: Settings, copy_of: Copy, postgres: Cluster) -> None:
    database = str(psycopg.conninfo.conninfo_to_dict(system.read_models_dsn)["dbname"])
    bootstrap.allow_connections(postgres.superuser_dsn(), database, (bootstrap.WITNESS_ROLE,))
    moved = replace(copy_of(system), read_models_witness_dsn=postgres.dsn(bootstrap.WITNESS_ROLE, database))
    bootstrap.allow_connections(postgres.superuser_dsn(), _database_of(moved), (bootstrap.WITNESS_ROLE,))
    with shop_in(system, 500) as shop:
        shop.paid()
    drain_everything(system)
    with _witnesses(moved) as seen:
        # What happened before they began they have not seen, and say so.
        before = seen()
        assert opened(moved) is not None
        assert seen() == before
        with shop_in(moved, 300) as shop:
            shop.refunded()
        drain_everything(moved)
        assert seen() == before


def _database_of(settings: Settings) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(settings.pods[0].owner_dsn)["dbname"])


@contextmanager
def _witnesses(settings: Settings) -> Iterator[Callable[[], list[KeptSighting]]]:
    """Yield a function that lets every witness look, and returns all sightings."""
    witnesses: list[Any] = build_witnesses(settings)
    assert {one.name for one in witnesses} == {"log", "oltp", "lake", "read_models", "search"}

    def seen() -> list[KeptSighting]:
        assert [look.trouble for look in (one.look_once() for one in witnesses) if look.trouble] == []
        return newest_sightings(settings.control_dsn)

    yield seen
    for one in witnesses:
        one.close()


def test_what_the_outbox_cannot_continue_is_refused(system: Settings, copy_of: Copy) -> None:
    moved = copy_of(system)
    with psycopg.connect(moved.pods[0].owner_dsn, autocommit=True) as connection:
        connection.execute("alter table oltp.outbox disable trigger user")
        connection.execute(
            "update oltp.outbox set xid = '9000000000' where position = (select max(position) from oltp.outbox)"
        )
    with pytest.raises(PropagationError, match="transaction counter"):
        opened(moved)
    with psycopg.connect(moved.pods[0].relay_dsn, autocommit=True) as connection:
        assert register_is_refused(connection)


def register_is_refused(connection: psycopg.Connection[Any]) -> bool:
    with pytest.raises(EpochChangedError):
        register_cut(connection, SHAPE, registered_by="test", is_forced=True)
    return True
