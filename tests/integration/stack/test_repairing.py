"""The commands for on-call: what was lost or waits comes back from the store that the command names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from contracts.clock import utc_now
from contracts.errors import InputError, LogGapError, PropagationError
from contracts.settings import Settings
from derived.lake_connection import open_lake
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.composition.projections import build_projection
from streams.consumer import Consumer
from streams.draining import drain_pod
from streams.lag import trim_log
from streams.log import Progress
from streams.logs import build_log
from streams.outbox_reading import RELAY_LOCK
from tests.conftest import MakeDatabase
from tests.integration.reconcile_world import open_shops, shop_in

Run = Callable[..., Any]


@pytest.fixture
def system(settings: Settings) -> Settings:
    """Two pods with something in every table, and every copy up to date."""
    migrate_everything(settings)
    with open_shops(settings) as shops:
        for shop in shops:
            shop.paid()
        for pod in settings.pods:
            drain_pod(pod, settings)
        for shop in shops:
            shop.paid()
    drain_everything(settings)
    return settings


@pytest.fixture
def run(system: Settings, run: Run) -> Run:
    """Run a command on `system`, or on other settings, and return its JSON answer."""
    return partial(run, code=0)


def lake_events(settings: Settings) -> int:
    with open_lake(settings, read_only=True) as connection:
        return int(connection.execute("select count(*) from lake.raw.events").fetchall()[0][0])


def view_rows(settings: Settings, statement: str = "select count(*) from read_models.account_orders") -> Any:
    with psycopg.connect(settings.read_models_dsn) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else None


def test_a_lost_view_is_rebuilt_though_the_log_is_trimmed(system: Settings, run: Run) -> None:
    before = view_rows(system)
    assert before != [(0,)]
    view_rows(system, "delete from read_models.account_orders")
    (one,) = run("rebuild", "account_view", "--pod", "pod1")
    assert one["aggregates"] > one["rows_before"]

    view_rows(system, "delete from read_models.account_orders")
    view_rows(system, "delete from read_models.positions where projection = 'account_view'")
    with closing(build_log(system)) as log:
        for pod in ("pod1", "pod2"):
            assert trim_log(log, pod).kept_from_cut > 1
        with pytest.raises(LogGapError, match="tieout rebuild account_view --pod pod1"):
            Consumer(build_projection("account_view", system), "pod1", log).drain()
    assert {one["pod"] for one in run("rebuild", "account_view")} == {"pod1", "pod2"}
    assert view_rows(system) == before
    drain_everything(system)


def test_several_views_are_rebuilt_by_one_command(system: Settings, run: Run) -> None:
    tables = ("account_orders", "fulfillment_orders")
    before = [view_rows(system, f"select count(*) from read_models.{table}") for table in tables]
    for table in tables:
        view_rows(system, f"delete from read_models.{table} where pod = 'pod1'")
    views = ("account_view", "fulfillment_view")
    done = run("rebuild", *views, "account_view")
    assert [(one["view"], one["pod"]) for one in done] == [(view, pod) for pod in ("pod1", "pod2") for view in views]
    assert all(one["aggregates"] for one in done if one["pod"] == "pod1")
    assert [view_rows(system, f"select count(*) from read_models.{table}") for table in tables] == before
    drain_everything(system)


def test_the_lake_comes_back_from_its_backup(
    system: Settings, run: Run, make_database: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(segment["events"] for segment in run("backup")) == lake_events(system)
    assert run("backup") == []
    lost = replace(
        system, catalog_dsn=make_database("tieout_lake"), lake_data_path=f"{system.lake_data_path}../restored/"
    )
    assert {segment["pod"] for segment in run("restore-lake", on=lost)} == {"pod1", "pod2"}
    assert lake_events(lost) == lake_events(system)
    with pytest.raises(PropagationError, match="not empty"):
        run("restore-lake", on=lost)

    (file, *_) = Path(lost.lake_data_path, "raw", "events").rglob("*.parquet")
    file.unlink()
    assert {segment["pod"] for segment in run("restore-lake", "--discard", "--yes", on=lost)} == {"pod1", "pod2"}
    assert lake_events(lost) == lake_events(system)
    # Where the outbox is pruned, and no backup has what it gave up, what is left of the lake is all there is.
    monkeypatch.setattr("streams.reissue.unpruned_after", lambda pod: 5)
    with pytest.raises(PropagationError, match=r"pruned through cut 5.*reaches cut 0.*nothing was discarded"):
        run("restore-lake", "--discard", "--yes", on=replace(lost, lake_backup_path=tmp_path / "none"))
    assert lake_events(lost) == lake_events(system)


def test_a_lost_log_is_published_again(system: Settings, run: Run) -> None:
    with redis.Redis.from_url(system.log_url) as client:
        client.flushall()
    with psycopg.connect(system.pods[0].relay_dsn, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(%s, %s)", RELAY_LOCK)
        with pytest.raises(PropagationError, match="tieout down"):
            run("republish", "pod1", "--from-cut", "1")
    (done,) = run("republish", "pod1", "--from-cut", "1")
    with closing(build_log(system)) as log:
        assert log.tail("pod1", 1).manifest_cut == done["through_cut"] > 0
    assert done["events"] > 0


REFUSES = """
create function read_models.refuse() returns trigger language plpgsql as $body$ begin
    raise exception using errcode = '23514', message = 'refused for the test';
end $body$;
create trigger refuses before insert or update on read_models.account_orders
for each row execute function read_models.refuse();
"""


def test_what_is_parked_is_listed_shown_and_applied_again(system: Settings, run: Run) -> None:
    view_rows(system, REFUSES)
    placed = []
    for pod in (0, 1):
        with shop_in(system, 100, pod) as shop:
            placed += [shop.paid()[0] for _ in range(2)]
    drain_everything(system)
    keys = {f"{order.merchant_id}/order/{order.order_id}" for order in placed}
    found = run("parked", "list")
    assert found["total"] == 4 and {one["aggregate_key"] for one in found["aggregates"]} == keys
    assert {(one["copy"], one["event_type"]) for one in found["aggregates"]} == {("account_view", "order_placed")}
    # One cause has parked all of them: it is one line for each pod.
    reasons = {(one["pod"], one["aggregate_type"], one["aggregates"]) for one in found["reasons"]}
    assert reasons == {("pod1", "order", 2), ("pod2", "order", 2)}
    assert all("refused for the test" in one["reason"] for one in found["reasons"])
    assert run("parked", "list", "lake")["total"] == 0
    assert run("parked", "list", "account_view", "--pod", "pod2", "--limit", "1")["total"] == 2

    key = f"{placed[0].merchant_id}/order/{placed[0].order_id}"
    (shown,) = run("parked", "show", key)
    assert (shown["copy"], shown["aggregate_key"], shown["aggregate_version"]) == ("account_view", key, 1)
    assert shown["payload"]["state"]["order_id"] == placed[0].order_id
    assert run("parked", "show", key.replace(placed[0].order_id, "another")) == []

    # The cause still stands; then it is mended, first for one of them.
    assert all(one["replayed_events"] == 0 for one in run("parked", "retry", "account_view"))
    assert run("parked", "list")["total"] == 4
    view_rows(system, "drop trigger refuses on read_models.account_orders")
    retried = {one["pod"]: one for one in run("parked", "retry", "account_view", "--key", key)}
    assert retried[shown["pod"]] == {"pod": shown["pod"], "replayed_events": 1, "still_parked": 1}
    run("parked", "retry", "account_view")
    assert run("parked", "list") == {"total": 0, "reasons": [], "aggregates": []}


def test_what_parks_nothing_is_said(run: Run) -> None:
    with pytest.raises(InputError, match="'warehouse' parks no events; there are "):
        run("parked", "list", "warehouse")
    with pytest.raises(InputError, match="is of no known type"):
        run("parked", "show", "m/thing/1")


def test_nothing_parked_and_old_projections(system: Settings, run: Run) -> None:
    parked = run("parked", "retry", "account_view")
    assert parked == [{"pod": pod, "replayed_events": 0, "still_parked": 0} for pod in ("pod1", "pod2")]
    with closing(build_log(system)) as log:
        log.report_progress("pod1", Progress(projection="gone", applied_cut=1, reported_at=utc_now()))
        assert [one["was_registered"] for one in run("forget-projection", "gone", "--yes")] == [True, False]
        assert "gone" not in [one.projection for one in log.progress("pod1")]


@pytest.mark.parametrize(
    "arguments",
    [
        ("rebuild", "lake"),
        ("rebuild", "account_view", "warehouse"),
        ("rebuild", "account_view", "fulfillment_view", "--key", "acme/order/1"),
        ("rebuild", "account_view", "--pod", "pod9"),
        ("forget-projection", "lake"),
    ],
)
def test_what_cannot_be_repaired_is_said(run: Run, arguments: tuple[str, ...]) -> None:
    with pytest.raises(InputError):
        run(*arguments)
