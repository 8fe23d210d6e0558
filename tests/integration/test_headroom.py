"""Limits of servers and of comparisons: what is used of each is measured by the roles that we have."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from contracts.clock import utc_now
from contracts.settings import Settings
from reconcile.results import memory_since, migrate, save_results
from repair.alerts.near_limits import LimitUse
from stack.looking import headroom
from stack.looking.headroom import limit_uses
from streams import outbox_reading
from tests.conftest import Cluster
from tests.streams_support import insert_events
from tests.values import result_of


def uses(settings: Settings) -> dict[str, LimitUse]:
    return {use.name: use for use in limit_uses(settings)}


def test_connections_of_a_server_are_counted_whoever_holds_them(settings: Settings) -> None:
    def connections() -> LimitUse:
        (found,) = [use for name, use in uses(settings).items() if name.startswith("connections of PostgreSQL")]
        return found

    before = connections()
    assert 0 < before.used < before.limit and not before.is_near, "one server, however many databases"
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(psycopg.connect(settings.control_dsn))
        assert connections().used >= before.used + 15, "others may have gone meanwhile"
    assert "max_connections" in connections().sentence


def test_what_waits_in_an_outbox_is_counted(
    settings: Settings, postgres: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_reading, "COUNTED_MAX", 10)
    monkeypatch.setattr(outbox_reading, "QUEUED_EVENTS_MAX", 100)
    database = str(conninfo_to_dict(settings.pods[0].owner_dsn)["dbname"])
    # The events are of no aggregate, which triggers would not take.
    options = f"?options={quote('-c session_replication_role=replica')}"
    insert_events(postgres.superuser_dsn(database) + options, 85)
    found = uses(settings)
    assert (found["outbox of pod1"].used, found["outbox of pod1"].limit) == (85, 100)
    assert found["outbox of pod1"].is_near and not found["outbox of pod2"].is_near
    assert "85 of 100 events" in found["outbox of pod1"].sentence


def test_what_comparisons_took_is_kept_with_their_results(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate(settings.control_dsn)
    assert memory_since(settings.control_dsn, utc_now()).peak_mb is None
    now = utc_now()
    result = result_of("a", checked_at=now, peak_memory_mb=850.0)
    old = replace(result, peak_memory_mb=999.0, is_memory_short=True, checked_at=now - timedelta(days=2))
    save_results(settings.control_dsn, [old, result, replace(result, pair="b", peak_memory_mb=None)])
    monkeypatch.setattr(headroom, "memory_mb", lambda: 1_000.0)
    (machine,) = [use for name, use in uses(settings).items() if "comparison" in name and "machine" in name]
    assert (machine.used, machine.limit) == (850.0, 1_000.0)
    assert "memory setting of comparisons" not in uses(settings)
    save_results(settings.control_dsn, [replace(result, pair="b", is_memory_short=True)])
    short = uses(settings)["memory setting of comparisons"]
    assert short.is_near and "b fitted with one thread only: raise TIEOUT_COMPARISON_MEMORY_MB" in short.sentence


def test_carts_that_wait_for_their_pods_are_counted(settings: Settings) -> None:
    assert not any(name.startswith("carts that wait") for name in uses(settings)), "no server of carts is set"
    found = uses(replace(settings, carts_url=settings.log_url, carts_queued_max=7))
    assert (found["carts that wait for pod1"].used, found["carts that wait for pod1"].limit) == (0, 7)
    assert found["write-through of carts to pod2"].used == 0
