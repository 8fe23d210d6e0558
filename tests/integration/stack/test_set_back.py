"""A pod's database is set back while the log is empty: the copies say so, before anything is published or compared."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
import redis

from contracts.errors import HistoryUnknownError, LogDivergedError
from contracts.settings import Settings
from contracts.verdicts import Verdict
from derived.known_cuts import cut_sources_of
from derived.lake_backup import back_up
from reconcile.comparison_run import run_pairs
from reconcile.results import result_of
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from stack.composition.projections import build_projection
from streams.cuts import last_cut, register_cut
from streams.draining import drain_pod
from streams.epochs import cut_numbered
from streams.lag import observe
from streams.logs import build_log
from streams.relay import build_relay
from tests.integration.cli.test_open_epoch import (
    ALL,
    check_everything_agrees,
    event_ids,
    lake_ids,
    newest_cut,
    opened,
)
from tests.integration.reconcile_world import shop_in
from tests.streams_support import SHAPE

NOWHERE = "postgresql://nobody:none@127.0.0.1:1/nothing"


def live_on(system: Settings) -> int:
    """Sell more, into every copy; return the cut before."""
    base = newest_cut(system)
    with shop_in(system, 500) as shop:
        for _ in range(3):
            shop.refunded()
            drain_everything(system)
    assert newest_cut(system) >= base + 3
    return base


def set_back(system: Settings, base: int) -> None:
    """Take everything after a cut from pod1's database, as an older copy of its files would: the epoch stays."""
    with psycopg.connect(system.pods[0].owner_dsn) as connection:
        cut = cut_numbered(connection, base)
        assert cut is not None
        connection.execute("alter table oltp.outbox disable trigger user")
        connection.execute(
            "delete from oltp.outbox where not pg_visible_in_snapshot(xid, %s::pg_snapshot)", (cut.snapshot,)
        )
        connection.execute("delete from oltp.cuts where cut > %s", (base,))
        connection.execute("alter table oltp.outbox enable trigger user")


def flush(system: Settings) -> None:
    with redis.Redis.from_url(system.log_url) as client:
        client.flushdb()


def drain(system: Settings) -> int:
    pod = system.pods[0]
    return drain_pod(pod, system, cut_sources=cut_sources_of(system)).cut


def logged(system: Settings) -> int:
    with closing(build_log(system)) as log:
        return log.tail("pod1", 1).manifest_cut


def states(system: Settings) -> set[str]:
    with closing(build_log(system)) as log:
        found = set()
        for name in ALL:
            with closing(build_projection(name, system)) as projection:
                found.add(observe(projection, "pod1", log).state)
        return found


def check_refused(system: Settings, match: str = "set back") -> None:
    """Nothing is registered, published or compared, and no copy calls itself current."""
    known = newest_cut(system)
    before = logged(system)
    with pytest.raises(LogDivergedError, match=match):
        drain(system)
    (result,) = run_pairs(build_reconcile_context(system), ["oltp_lake.order"], ["pod1"])
    assert result.verdict is Verdict.UNKNOWN and "tieout open-epoch" in result.reason
    assert newest_cut(system) == known and logged(system) == before
    assert "current" not in states(system)


def go_on(system: Settings) -> None:
    """Open the epoch, trade on and let every copy catch up; the ledger follows the lower cuts."""
    assert opened(system)
    (result,) = run_pairs(build_reconcile_context(system), ["oltp_identities"], ["pod1"])
    assert result.epoch_opened_at is not None and result_of(result.as_json()) == result
    with shop_in(system, 900) as shop:
        shop.refunded()
    drain_everything(system)


@pytest.mark.in_turn("stores")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("grown", [False, True], ids=["behind", "grown beyond the old number"])
def test_a_database_set_back_while_the_log_is_empty_publishes_nothing(system: Settings, grown: bool) -> None:
    base = live_on(system)
    furthest = newest_cut(system)
    set_back(system, base)
    flush(system)
    if grown:
        with psycopg.connect(system.pods[0].relay_dsn, autocommit=True) as connection:
            while (newest := last_cut(connection)) is not None and newest.cut < furthest + 2:
                register_cut(connection, SHAPE, registered_by="test", is_forced=True)
    check_refused(system)
    go_on(system)
    assert sorted(lake_ids(system)) == sorted(event_ids(system))


@pytest.mark.in_turn("stores")
def test_a_machine_set_back_together_with_its_log_is_noticed(system: Settings) -> None:
    base = live_on(system)
    set_back(system, base)
    flush(system)
    # What an older file of the log would hold: everything up to the cut that the database has, too.
    with closing(build_relay(system.pods[0], system)) as relay:
        assert relay.drain().cut == base == logged(system)
    check_refused(system)
    go_on(system)
    assert sorted(lake_ids(system)) == sorted(event_ids(system))


def test_each_copy_alone_is_proof_enough(system: Settings) -> None:
    back_up_base = live_on(system)
    back_up(system.catalog_dsn, system.lake_data_path, system.lake_backup_path)
    set_back(system, back_up_base)
    flush(system)
    views, lake, backup = cut_sources_of(system)
    for source in (views, lake, backup):
        with pytest.raises(LogDivergedError, match="set back"):
            drain_pod(system.pods[0], system, cut_sources=[source])
    assert logged(system) == 0


def test_who_does_not_answer_is_waited_for_only_while_the_log_says_nothing(system: Settings) -> None:
    dumb = replace(system, catalog_dsn=NOWHERE)
    with shop_in(system, 500) as shop:
        shop.paid()
    assert drain(dumb) == logged(system), "the log itself ends with a cut of this database"
    flush(system)
    with pytest.raises(HistoryUnknownError, match="the lake did not answer"):
        drain(dumb)
    assert logged(system) == 0
    assert drain(system) == logged(system) > 0


@pytest.mark.in_turn("stores", seconds=18)
def test_a_log_that_was_set_back_or_lost_is_written_again(system: Settings) -> None:
    live_on(system)
    flush(system)
    assert states(system) == {"ahead"}
    with shop_in(system, 900) as shop:
        shop.refunded()
    drain_everything(system)
    assert states(system) == {"current"}
    assert sorted(lake_ids(system)) == sorted(event_ids(system))
    check_everything_agrees(system, ["pod1"])


def test_a_position_that_was_falsified_is_no_database_set_back(system: Settings) -> None:
    with psycopg.connect(system.read_models_dsn) as connection:
        connection.execute("update read_models.positions set cut = cut + 1000 where pod = 'pod1'")
    assert drain(system) == logged(system)
    flush(system)
    assert drain(system) == logged(system)
