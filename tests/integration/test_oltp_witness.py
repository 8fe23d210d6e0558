"""The witness of OLTP on a real write-ahead log: nothing that the product does is seen, and every cheat is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from contracts.settings import PodSettings
from contracts.sightings import KeptSighting, SightingKind
from oltp.commands.execute import build_command_pod
from reconcile.connections import Connections
from reconcile.sightings import migrate as migrate_sightings
from reconcile.sightings import newest_sightings
from reconcile.witness_states import witness_states
from streams.cuts import register_cut
from tests.conftest import Cluster
from tests.integration.shop import Shop, open_shop
from tests.streams_support import SHAPE
from witness.oltp import OltpWitness
from witness.slot import Slot
from witness.watching import Look, look_and_report

UNTOUCHED = "set local session_replication_role = replica"


@dataclass(kw_only=True)
class Watched:
    """A shop whose pod has a witness that has looked once, and a superuser who cheats."""

    shop: Shop
    pod: PodSettings
    control_dsn: str
    superuser_dsn: str
    witness: OltpWitness
    connections: Connections = field(default_factory=Connections)

    def cheat(self, *statements: str, **bound: Any) -> None:
        """Execute statements in one transaction as a superuser, without any trigger."""
        with psycopg.connect(self.superuser_dsn) as connection:
            for statement in (UNTOUCHED, *statements):
                connection.execute(statement, bound)

    def close(self) -> None:
        """Close the witness's connections, and those of the test."""
        self.witness.close()
        self.connections.close()

    def seen(self) -> list[KeptSighting]:
        """Look, and return all sightings, the newest first."""
        self.witness.look_once()
        return newest_sightings(self.control_dsn)

    def again(self, **options: Any) -> OltpWitness:
        """Return the witness of a new process."""
        self.witness.close()
        self.witness = OltpWitness(
            pod=self.pod.pod, dsn=options.get("dsn", self.pod.witness_dsn), control_dsn=self.control_dsn
        )
        return self.witness


@pytest.fixture
def watched(
    make_pod: Callable[[], PodSettings], make_database: Callable[[str], str], postgres: Cluster
) -> Iterator[Watched]:
    pod, control_dsn = make_pod(), make_database("tieout_control")
    migrate_sightings(control_dsn)
    with psycopg.connect(pod.owner_dsn) as connection:
        database = connection.info.dbname
    witness = OltpWitness(pod=pod.pod, dsn=pod.witness_dsn, control_dsn=control_dsn, beat_seconds=0)
    with build_command_pod(pod) as commands, closing(witness):
        assert witness.look_once() == Look(sightings=0)
        made = Watched(
            shop=open_shop(commands, pod),
            pod=pod,
            control_dsn=control_dsn,
            superuser_dsn=postgres.superuser_dsn(database),
            witness=witness,
        )
        with closing(made):
            yield made


def test_a_life_of_orders_is_not_seen(watched: Watched) -> None:
    shop = watched.shop
    order = shop.place(("MUG", 2), ("PEN", 1))
    shop.pay(order)
    shop.fulfill(order)
    shop.cancel(shop.place(("PIN", 1)))
    assert watched.seen() == []
    # It has read what was written, and has seen its own heartbeat.
    assert watched.witness.look_once().proven_seconds_ago is not None


CHEATS = {
    "root": ("update oltp.orders set version = version where order_id = %(order)s", "orders", "order"),
    "child": ("update oltp.order_lines set quantity = quantity where order_id = %(order)s", "order_lines", "order"),
    "child deleted": ("delete from oltp.order_lines where order_id = %(order)s", "order_lines", "order"),
    "root deleted": ("delete from oltp.orders where order_id = %(order)s", "orders", "order"),
    "event changed": (
        "update oltp.outbox set payload = '{}' where aggregate_id = %(order)s::text",
        "outbox",
        "order",
    ),
    "event deleted": ("delete from oltp.outbox where aggregate_id = %(order)s::text", "outbox", "order"),
    "table emptied": ("truncate oltp.payments cascade", "payments", None),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_without_triggers_is_seen_with_its_aggregate(watched: Watched, cheat: str) -> None:
    statement, table, owner = CHEATS[cheat]
    order = watched.shop.place(("MUG", 2))
    assert watched.seen() == []
    watched.cheat(statement, order=order.order_id)
    found = [sighting for sighting in watched.seen() if sighting.place == f"oltp.{table}"]
    assert [(one.kind, one.pod, one.copy, one.aggregate_id) for one in found] == [
        (SightingKind.UNANNOUNCED, "pod1", None, order.order_id if owner else None)
    ]
    assert found[0].written_at is not None


def test_the_old_and_the_new_row_are_told_without_the_payload(watched: Watched) -> None:
    order = watched.shop.place(("MUG", 2))
    watched.cheat("update oltp.order_lines set quantity = 7 where order_id = %(order)s", order=order.order_id)
    watched.cheat("update oltp.outbox set payload = '{}' where aggregate_id = %(order)s::text", order=order.order_id)
    event, line = watched.seen()
    assert line.before is not None and line.after is not None
    assert (line.before["quantity"], line.after["quantity"]) == ("2", "7")
    assert event.after is not None and "payload" not in event.after


def test_an_event_of_another_aggregate_does_not_announce(watched: Watched) -> None:
    mine, other = watched.shop.place(("MUG", 1)), watched.shop.place(("MUG", 1))
    watched.cheat(
        "update oltp.orders set version = version + 1 where order_id = any(array[%(mine)s, %(other)s]::uuid[])",
        "insert into oltp.outbox (event_id, merchant_id, aggregate_type, aggregate_id, aggregate_version, event_type, "
        "schema_version, occurred_at, correlation_id, payload) select gen_random_uuid(), merchant_id, aggregate_type, "
        "aggregate_id, aggregate_version + 1, event_type, schema_version, occurred_at, correlation_id, payload "
        "from oltp.outbox where aggregate_id = %(mine)s::text",
        mine=mine.order_id,
        other=other.order_id,
    )
    assert [one.aggregate_id for one in watched.seen()] == [other.order_id]


def test_a_line_that_is_moved_to_another_order_names_both(watched: Watched) -> None:
    mine, other = watched.shop.place(("MUG", 1)), watched.shop.place(("PEN", 1))
    watched.cheat(
        "update oltp.order_lines set order_id = %(other)s, line_number = 99 where order_id = %(mine)s",
        mine=mine.order_id,
        other=other.order_id,
    )
    assert {one.aggregate_id for one in watched.seen()} == {mine.order_id, other.order_id}


def test_a_declared_bypass_is_compared_and_its_record_may_not_be_changed(watched: Watched) -> None:
    order, untouched = watched.shop.place(("MUG", 2)), watched.shop.place(("MUG", 1))
    with psycopg.connect(watched.pod.owner_dsn) as owner:
        owner.execute("select oltp.declare_bypass('a test')")
        owner.execute("update oltp.orders set version = version + 1 where order_id = %s", (order.order_id,))
    past = "update oltp.outbox set occurred_at = now() where aggregate_id = %(order)s::text"
    watched.cheat("select oltp.declare_bypass('a test')", past, order=untouched.order_id)
    assert {(one.kind, one.place, one.aggregate_id) for one in watched.seen()} == {
        (SightingKind.DECLARED, "oltp.orders", order.order_id),
        (SightingKind.DECLARED, "oltp.outbox", untouched.order_id),
    }
    assert all("a declared bypass (a test)" in one.what for one in watched.seen())
    watched.cheat("select oltp.declare_bypass('cover')", "update oltp.bypasses set reason = 'another'")
    assert [(one.kind, one.place) for one in watched.seen()[:-2]] == [(SightingKind.UNANNOUNCED, "oltp.bypasses")]


def test_who_declares_nothing_and_who_declares_are_told_apart(watched: Watched) -> None:
    first, second = watched.shop.place(("MUG", 1)), watched.shop.place(("MUG", 1))
    update = "update oltp.orders set version = version where order_id = %(order)s"
    watched.cheat("select oltp.declare_bypass('known')", update, order=first.order_id)
    watched.cheat(update, order=second.order_id)
    assert {one.aggregate_id: one.kind for one in watched.seen()} == {
        first.order_id: SightingKind.DECLARED,
        second.order_id: SightingKind.UNANNOUNCED,
    }


def test_pruning_is_not_seen(watched: Watched) -> None:
    watched.shop.place(("MUG", 1))
    with psycopg.connect(watched.pod.relay_dsn, autocommit=True) as relay:
        for _ in range(2):
            register_cut(relay, registered_by="test", shape=SHAPE, is_forced=True)
        row = relay.execute("select * from oltp.prune_outbox(2)").fetchone()
    assert row is not None and row[0] > 0
    assert watched.seen() == []


def test_a_migration_again_is_not_seen(watched: Watched) -> None:
    from oltp.store.migrate import migrate

    migrate(watched.pod.owner_dsn)
    assert watched.seen() == []


def test_killed_between_store_and_advance_nothing_is_lost_or_doubled(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = watched.shop.place(("MUG", 2))
    watched.cheat("update oltp.orders set version = version where order_id = %(order)s", order=order.order_id)

    def killed(slot: Slot, position: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Slot, "advance", killed)
        with pytest.raises(KeyboardInterrupt):
            watched.witness.look_once()
    assert len(newest_sightings(watched.control_dsn)) == 1
    # The next process reads the same transactions again, and what came after.
    watched.again()
    watched.cheat("update oltp.orders set version = version where order_id = %(order)s", order=order.order_id)
    assert [one.aggregate_id for one in watched.seen()] == [order.order_id, order.order_id]


def test_killed_before_the_store_it_is_seen_later(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    order = watched.shop.place(("MUG", 2))
    watched.cheat("update oltp.orders set version = version where order_id = %(order)s", order=order.order_id)

    def killed(witness: OltpWitness, *_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OltpWitness, "_keep", killed)
        with pytest.raises(KeyboardInterrupt):
            watched.witness.look_once()
    watched.again()
    assert [one.aggregate_id for one in watched.seen()] == [order.order_id]


def test_many_changes_are_read_in_parts(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("witness.slot.CHANGES_AT_ONCE", 5)
    monkeypatch.setattr("witness.slot_witness.CHANGES_AT_ONCE", 5)
    orders = [watched.shop.place(("MUG", 1)) for _ in range(3)]
    watched.cheat("update oltp.orders set version = version where order_id = %(order)s", order=orders[0].order_id)
    looks = 0
    while not (found := watched.seen()):
        looks += 1
        assert looks < 1_000
    assert looks > 3
    assert [one.aggregate_id for one in found] == [orders[0].order_id]


def dropped(watched: Watched) -> None:
    watched.cheat(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()"
    )


def moved_on(watched: Watched) -> None:
    watched.shop.place(("MUG", 1))
    with psycopg.connect(watched.superuser_dsn, autocommit=True) as connection:
        connection.execute(
            "select pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn()) from pg_replication_slots "
            "where database = current_database()"
        )


def publication_changed(watched: Watched) -> None:
    watched.cheat("alter publication tieout_witness drop table oltp.orders")
    watched.cheat("alter publication tieout_witness add table oltp.orders")


def overtaken(watched: Watched) -> None:
    """Let the server remove what the slot has not read: its log may grow by one segment only."""
    with psycopg.connect(watched.superuser_dsn, autocommit=True) as connection:
        connection.execute("alter system set max_slot_wal_keep_size = '16MB'")
        connection.execute("select pg_reload_conf()")
        try:
            # The server takes the new setting some time after the reload.
            for _ in range(100):
                connection.execute("select pg_logical_emit_message(false, 'test', 'x')")
                connection.execute("select pg_switch_wal()")
                connection.execute("checkpoint")
                if connection.execute(LOST).fetchone():
                    return
            pytest.fail("The slot was not overtaken.")
        finally:
            connection.execute("alter system reset max_slot_wal_keep_size")
            connection.execute("select pg_reload_conf()")


LOST = "select 1 from pg_replication_slots where database = current_database() and wal_status = 'lost'"


@pytest.mark.parametrize("blinding", [dropped, moved_on, publication_changed, overtaken])
def test_whoever_blinds_the_witness_is_said_and_it_sees_again(
    watched: Watched, blinding: Callable[[Watched], None]
) -> None:
    blinding(watched)
    watched.again()
    found = watched.seen()
    assert [(one.kind, one.pod, one.aggregate_id) for one in found] == [(SightingKind.BLIND, "pod1", None)]
    order = watched.shop.place(("MUG", 1))
    watched.cheat("update oltp.orders set version = version where order_id = %(order)s", order=order.order_id)
    assert [one.kind for one in watched.seen()] == [SightingKind.UNANNOUNCED, SightingKind.BLIND]


def test_a_publication_that_does_not_show_everything_is_trouble(watched: Watched) -> None:
    watched.cheat("alter publication tieout_witness drop table oltp.orders")
    assert "does not show every table" in watched.witness.look_once().trouble


def test_a_witness_that_cannot_connect_says_so_without_a_password(watched: Watched) -> None:
    control = watched.connections.to(watched.control_dsn)
    proven = watched.witness.look_once().proven_seconds_ago
    assert proven is not None and proven >= 0
    assert look_and_report(watched.witness, control, str) == ""
    (healthy,) = witness_states(watched.control_dsn)
    assert healthy.complaint == ""
    broken = watched.again(dsn="postgresql://tieout_witness:secret@127.0.0.1:1/nothing")
    look_and_report(broken, control, lambda text: text.replace("secret", "***"))
    (state,) = witness_states(watched.control_dsn)
    assert "OperationalError" in state.complaint and "secret" not in state.complaint
    # That it looked before is still told, and counts for nothing.
    assert (state.looked_at, state.proven_at) == (healthy.looked_at, healthy.proven_at)


def test_without_a_role_it_says_which_setting_is_missing(watched: Watched) -> None:
    look = watched.again(dsn="").look_once()
    assert look.trouble == "It has no role in pod pod1: set TIEOUT_POD1_WITNESS_DSN."


def test_the_witness_may_not_read_or_write_commerce(watched: Watched) -> None:
    with psycopg.connect(watched.pod.witness_dsn, autocommit=True) as connection:
        for statement in ("select * from oltp.orders", "delete from oltp.outbox", "select oltp.declare_bypass('x')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
