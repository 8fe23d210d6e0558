"""The witness of the read models on a real write-ahead log: nothing that their writers do is seen, every cheat is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from contracts.ownership import READ_MODELS, Copy
from contracts.sightings import KeptSighting, SightingKind
from derived.read_models import migrate
from drills import wiping
from reconcile.sightings import migrate as migrate_sightings
from reconcile.sightings import newest_sightings
from tests.conftest import Cluster, MakeDatabase
from tests.derived_work import FakePod, key_of, order, parked, payment
from tests.integration.derived.conftest import Stores
from witness.read_models import ReadModelsWitness
from witness.watching import Look

UNTOUCHED = "set local session_replication_role = replica"


@dataclass(kw_only=True)
class Watched:
    """Read models with an order and its payment, a witness that has looked, and a superuser who cheats."""

    stores: Stores
    control_dsn: str
    superuser_dsn: str
    witness: ReadModelsWitness
    pod: FakePod = field(default_factory=FakePod)
    order: OrderState = field(default_factory=order)
    payment: PaymentState = field(init=False)

    def __post_init__(self) -> None:
        """Take in the first cut."""
        self.payment = payment(self.order)
        self.stores.apply(self.pod.step(self.pod.cut(self.order, self.payment)), also_lake=True)

    def cheat(self, *statements: str, **bound: Any) -> None:
        """Execute statements in one transaction as a superuser."""
        with psycopg.connect(self.superuser_dsn) as connection:
            for statement in statements:
                connection.execute(statement, bound)

    def seen(self) -> list[KeptSighting]:
        """Look, and return all sightings, the newest first."""
        look = self.witness.look_once()
        assert look.trouble == ""
        return newest_sightings(self.control_dsn)

    def again(self) -> None:
        """Let a new process look."""
        self.witness.close()
        self.witness = ReadModelsWitness(dsn=self.witness.dsn, control_dsn=self.control_dsn)


@pytest.fixture
def watched(stores: Stores, make_database: MakeDatabase, postgres: Cluster) -> Iterator[Watched]:
    control_dsn = make_database("tieout_control")
    migrate_sightings(control_dsn)
    with psycopg.connect(stores.dsn) as connection:
        database = connection.info.dbname
    dsn = stores.settings.read_models_witness_dsn
    witness = ReadModelsWitness(dsn=dsn, control_dsn=control_dsn, beat_seconds=0)
    # It began before the first consumer: there was nothing that it could have missed.
    assert witness.look_once() == Look(sightings=0)
    made = Watched(
        stores=stores, control_dsn=control_dsn, superuser_dsn=postgres.superuser_dsn(database), witness=witness
    )
    yield made
    made.witness.close()


def test_consumers_parking_rebuilds_and_migrations_are_not_seen(watched: Watched) -> None:
    stores, pod = watched.stores, watched.pod
    assert watched.seen() == []
    bad = pod.event(order(), payload="{")
    stores.apply(pod.step(pod.cut(), since=1, parked=[parked(bad)]), also_lake=True)
    stores.sales.skip("pod1", str(bad["event_id"]), reason="a test", by="test")
    for view in stores.views:
        view.rebuild("pod1", [key_of(watched.order), key_of(watched.payment)])
        view.rebuild_all("pod1")
    migrate(stores.dsn)
    assert watched.seen() == []
    # It has read what was written, and has seen its own heartbeat.
    assert watched.witness.look_once().proven_seconds_ago is not None


@pytest.mark.parametrize("copy", READ_MODELS, ids=lambda copy: copy.name)
def test_a_view_that_a_drill_wipes_is_not_seen(watched: Watched, copy: Copy) -> None:
    assert watched.seen() == []
    noted: list[bool] = []
    scene: Any = SimpleNamespace(
        system=SimpleNamespace(settings=watched.stores.settings),
        drill=SimpleNamespace(copy=copy),
        note=lambda *_, is_ok, **__: noted.append(is_ok),
    )
    wiping.wipe_view(scene)
    watched.stores.models[copy.name].rebuild_all("pod1")
    assert noted == [True] and watched.seen() == []


def test_tables_that_are_made_again_are_seen_as_blindness_and_the_repair_of_a_sum_is_not_seen(watched: Watched) -> None:
    watched.cheat("update read_models.merchant_sales_days set ordered_minor = 0")
    assert len(watched.seen()) == 1
    migrate(watched.stores.dsn)
    watched.stores.sales.rebuild_all("pod1")
    watched.cheat("drop table read_models.account_refunds")
    assert "run `tieout migrate`" in watched.witness.look_once().trouble
    migrate(watched.stores.dsn)
    kinds = [one.kind for one in watched.seen()]
    assert kinds == [SightingKind.BLIND] * 3 + [SightingKind.UNANNOUNCED]


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """Statements, and what is seen of them: table, read model, pod, and whose row it is."""

    statements: tuple[str, ...]
    seen: frozenset[tuple[str, str, str, str | None]]


CHEATS = {
    "changed": Cheat(
        statements=("update read_models.account_orders set status = 'lost'",),
        seen=frozenset({("account_orders", "account_view", "", "order")}),
    ),
    "changed without triggers": Cheat(
        statements=(UNTOUCHED, "update read_models.sales_orders set ordered_minor = 1"),
        seen=frozenset({("sales_orders", "merchant_sales", "", "order")}),
    ),
    "changed with its sum": Cheat(
        statements=("update read_models.sales_orders set ordered_minor = 1",),
        seen=frozenset(
            {
                ("sales_orders", "merchant_sales", "", "order"),
                ("merchant_sales_days", "merchant_sales", "", "day"),
            }
        ),
    ),
    "deleted": Cheat(
        statements=(UNTOUCHED, "delete from read_models.account_payments"),
        seen=frozenset({("account_payments", "account_view", "", "payment")}),
    ),
    "a line deleted": Cheat(
        statements=("delete from read_models.fulfillment_lines",),
        seen=frozenset({("fulfillment_lines", "fulfillment_view", "", "order")}),
    ),
    "inserted": Cheat(
        statements=(
            UNTOUCHED,
            "insert into read_models.sales_payments (merchant_id, payment_id, pod, epoch, version, currency) "
            "values ('m1', 'ghost', 'pod2', '1', 1, 'GBP')",
        ),
        seen=frozenset({("sales_payments", "merchant_sales", "pod2", "ghost")}),
    ),
    "a sum": Cheat(
        statements=("update read_models.merchant_sales_days set ordered_minor = ordered_minor + 1",),
        seen=frozenset({("merchant_sales_days", "merchant_sales", "", "day")}),
    ),
    "emptied": Cheat(
        statements=(UNTOUCHED, "truncate read_models.fulfillment_orders"),
        seen=frozenset({("fulfillment_orders", "fulfillment_view", "", None)}),
    ),
    "a position": Cheat(
        statements=("update read_models.positions set cut = cut + 1 where projection = 'account_view'",),
        seen=frozenset({("positions", "account_view", "pod1", None)}),
    ),
    "another writer's word": Cheat(
        statements=(
            "select pg_logical_emit_message(true, 'tieout.read_models', 'fulfillment_view')",
            "update read_models.account_orders set status = 'lost'",
        ),
        seen=frozenset({("account_orders", "account_view", "", "order")}),
    ),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_is_seen_with_its_read_model_and_aggregate(watched: Watched, cheat: str) -> None:
    assert watched.seen() == []
    watched.cheat(*CHEATS[cheat].statements)
    ((day,),) = watched.stores.execute("select sales_day_id from read_models.merchant_sales_days")
    ids = {"order": watched.order.order_id, "payment": watched.payment.payment_id, "day": day}
    expected = {
        (f"read_models.{table}", copy, pod, ids.get(of or "", of)) for table, copy, pod, of in CHEATS[cheat].seen
    }
    found = watched.seen()
    assert {(one.place, one.copy, one.pod, one.aggregate_id) for one in found} == expected
    assert {one.kind for one in found} == {SightingKind.UNANNOUNCED}
    assert all(one.written_at is not None for one in found)


def test_a_transaction_that_was_rolled_back_announces_nothing(watched: Watched) -> None:
    with psycopg.connect(watched.superuser_dsn) as connection:
        with connection.transaction(force_rollback=True):
            connection.execute("select pg_logical_emit_message(true, 'tieout.read_models', 'account_view')")
        connection.execute("update read_models.account_orders set status = 'lost'")
    assert [one.copy for one in watched.seen()] == ["account_view"]


def dropped(watched: Watched) -> None:
    watched.cheat(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()"
    )


def publication_changed(watched: Watched) -> None:
    watched.cheat("alter publication tieout_witness drop table read_models.account_orders")
    watched.cheat("alter publication tieout_witness add table read_models.account_orders")


@pytest.mark.parametrize("blinding", [dropped, publication_changed])
def test_whoever_blinds_the_witness_lets_every_read_model_be_compared(
    watched: Watched, blinding: Callable[[Watched], None]
) -> None:
    assert watched.seen() == []
    blinding(watched)
    watched.again()
    found = watched.seen()
    assert {(one.kind, one.pod, one.copy, one.aggregate_id) for one in found} == {
        (SightingKind.BLIND, "", name, None) for name in watched.stores.models
    }
    watched.cheat("update read_models.account_orders set status = 'lost'")
    assert watched.seen()[0].kind is SightingKind.UNANNOUNCED


def test_too_many_rows_to_name_ask_to_compare_the_read_model(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("witness.transactions.KEYS_PER_TRANSACTION", 2)
    watched.stores.apply(watched.pod.step(watched.pod.cut(*(order() for _ in range(5))), since=1))
    assert watched.seen() == []
    watched.cheat("update read_models.account_orders set status = 'lost'")
    found = watched.seen()
    assert [one.copy for one in found] == ["account_view"] * 3
    assert [one.aggregate_id is None for one in found] == [True, False, False]


def test_the_witness_may_not_read_or_write_a_view(watched: Watched) -> None:
    with psycopg.connect(watched.witness.dsn, autocommit=True) as connection:
        for statement in ("select * from read_models.account_orders", "delete from read_models.positions"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_without_a_role_it_says_which_setting_is_missing(watched: Watched) -> None:
    with closing(ReadModelsWitness(dsn="", control_dsn=watched.control_dsn)) as witness:
        assert witness.look_once().trouble == "It has no role in the read models: set TIEOUT_READ_MODELS_WITNESS_DSN."
