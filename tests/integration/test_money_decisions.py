"""Money that OLTP holds and no event explains: never stated by code; a person approves it, or puts it back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from bench.started import SEED
from bench.world import trade
from contracts.breaks import Break, BreakState
from contracts.errors import ConflictError, InputError
from contracts.money import format_minor
from contracts.progress import SILENT
from contracts.settings import Settings
from drills.damages import forged as forging
from drills.damages import oltp
from drills.damages.place import Target
from oltp.commands.execute import build_command_pod, execute
from oltp.commands.fulfill_order import FulfillOrder
from repair import ledger
from repair.deciding import Shown, approve, correct, look
from repair.repair_run import repair_breaks
from repair.run_report import RepairReport
from stack.composition.damaging import place_of
from stack.composition.migrations import migrate_everything
from stack.composition.repairing import repairing_tools
from stack.looking.status import read_status
from tests.integration.reconcile_world import DamagedPod

PAIRS = ("oltp_identities", "oltp_lake")
FINANCE = (*PAIRS, "operational_finance")
WHY = "the till says so"


class World(DamagedPod):
    """A pod whose OLTP somebody writes to past every trigger."""

    def repair(self, pairs: tuple[str, ...] = PAIRS) -> RepairReport:
        """Compare and repair, as the schedule does."""
        self.compare(*pairs)
        return repair_breaks(self.tools, pods=("pod1",))

    def waiting(self) -> list[Break]:
        assert ledger.breaks(self.dsn, states=[BreakState.OPEN, BreakState.REPAIRING]) == []
        return ledger.breaks(self.dsn, states=[BreakState.ESCALATED], limit=None)

    def look(self) -> Shown:
        """Have it found and repaired, which changes nothing; return what the person is shown."""
        report = self.repair()
        assert report.actions == () and self.waiting()
        return look(self.settings, self.waiting()[0].break_id, self.tools.projection)

    def approve(self, shown: Shown) -> list[int]:
        return approve(self.settings, shown, by="ada", reason=WHY)

    def correct(self, shown: Shown) -> list[str]:
        return correct(self.settings, shown, by="ada", reason=WHY).changed

    def rows(self, query: str, **bound: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.settings.pod("pod1").owner_dsn) as connection:
            return connection.execute(query.encode(), bound).fetchall()

    def ship(self, target: Target) -> None:
        """Fulfill an order as its merchant does."""
        ((location_id,),) = self.rows(
            "select distinct location_id from oltp.reservation_lines join oltp.reservations using (reservation_id) "
            "where order_id = %(id)s",
            id=target.aggregate_id,
        )
        command = FulfillOrder(
            merchant_id=target.merchant_id, order_id=target.aggregate_id, location_id=str(location_id)
        )
        with build_command_pod(self.settings.pod("pod1"), connections_max=1) as pod:
            execute(pod, command, idempotency_key=f"ship/{target.aggregate_id}")

    def break_of(self, target: Target, pair: str) -> Break:
        """Return a break of an aggregate in a pair that waits for a person."""
        return next(one for one in self.waiting() if (one.aggregate_key, one.pair) == (target.key, pair))

    def in_finance(self) -> dict[object, object]:
        """Return what finance has: order id -> total in minor units."""
        with self.place.lake() as lake:
            return dict(lake.execute("select order_id, total_minor from lake.marts.orders").fetchall())

    def order(self, order_id: str) -> dict[str, object]:
        ((row,),) = self.rows("select to_jsonb(o) from oltp.orders as o where order_id = %(id)s", id=order_id)
        assert isinstance(row, dict)
        return row


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    migrate_everything(settings)
    trade(settings, orders=30, seed=SEED, processes=0)
    with repairing_tools(settings, SILENT) as tools:
        yield World(tools=tools, place=place_of(settings, "pod1"))


def minor(order: dict[str, object]) -> int:
    return int(str(order["total_minor"]))


@pytest.mark.in_turn("repairs", seconds=33)
def test_money_is_put_back_by_a_person_or_stated_with_approval(world: World) -> None:
    target = world.place.take("order", "uncancelled")
    order_id = target.aggregate_id
    before = world.order(order_id)
    events = world.rows("select count(*) from oltp.outbox")
    forging.reprice(world.place, target, 2)
    shown = world.look()
    money = {change.field: (change.before, change.after) for change in shown.changes if change.is_money}
    assert money["total_minor"] == (minor(before), minor(world.order(order_id))) and money["total_minor"][1] > minor(
        before
    )
    assert "no event explains the change: " in world.waiting()[0].reason
    assert f"total {format_minor(minor(before), str(before['currency']))}" in world.waiting()[0].reason
    # What changed since it was shown is not decided about.
    forging.reprice(world.place, target, 3)
    with pytest.raises(ConflictError, match="is not any more what was shown"):
        world.correct(shown)
    shown = world.look()
    assert "total_minor" in world.correct(shown)
    assert world.order(order_id) == before and world.rows("select count(*) from oltp.outbox") == events
    assert world.repair().left == 0 and world.waiting() == []
    # The other decision: what the row holds is right.
    forging.reprice(world.place, target, 2)
    shown = world.look()
    with pytest.raises(InputError, match="Say who decides, and why"):
        approve(world.settings, shown, by="ada", reason=" ")
    assert world.approve(shown) == [item.break_id for item in ledger.breaks(world.dsn, states=[BreakState.OPEN])]
    report = world.repair()
    assert [action.kind for action in report.actions] == ["restate"] and report.is_clean
    assert minor(world.order(order_id)) > minor(before)
    with psycopg.connect(world.dsn) as connection:
        kept = connection.execute("select decision, by, reason from trust.decisions order by 1").fetchall()
    assert kept == [("correct", "ada", WHY)] * 2 + [("restate", "ada", WHY)]
    with psycopg.connect(world.dsn) as connection, pytest.raises(errors.CheckViolation, match="is evidence"):
        connection.execute("delete from trust.decisions")


@pytest.mark.long
@pytest.mark.timeout(900)
def test_forged_money_that_an_ordinary_command_states_is_left_out_until_a_person_says_so(world: World) -> None:
    target = world.place.take("order", "uncancelled", "open")
    assert world.repair(FINANCE).left == 0
    right = world.in_finance()
    total = minor(world.order(target.aggregate_id))
    forging.reprice(world.place, target, 2)
    world.ship(target)
    forged = minor(world.order(target.aggregate_id))
    assert forged > total == right[target.aggregate_id]

    assert world.repair(FINANCE).actions == ()
    item = world.break_of(target, "operational_finance.orders")
    assert {one.aggregate_key for one in world.waiting()} <= {target.key, None} and "does not say so" in item.reason
    assert world.in_finance() == right, "the order stands as it was, all others are what they are"
    amount = f"placed {format_minor(total, str(world.order(target.aggregate_id)['currency']))}"
    sentences = read_status(world.settings).left_out or []
    (sentence,) = sentences
    assert target.key in sentence and amount in sentence

    shown = look(world.settings, item.break_id, world.tools.projection)
    assert {change.field: (change.before, change.after) for change in shown.changes}["total_minor"] == (total, forged)
    assert item.break_id in world.approve(shown)
    assert "restate" in [action.kind for action in world.repair(FINANCE).actions]
    world.repair(FINANCE)
    assert [one.reason for one in world.waiting()] == []
    assert world.in_finance() == right | {target.aggregate_id: forged} and read_status(world.settings).left_out == []

    # Another one is put back: what was shipped stays, and the old amounts are stated.
    target = world.place.take("order", "uncancelled", "open")
    total = minor(world.order(target.aggregate_id))
    forging.reprice(world.place, target, 2)
    world.ship(target)
    assert world.repair(FINANCE).actions == ()
    item = world.break_of(target, "operational_finance.orders")
    assert "total_minor" in world.correct(look(world.settings, item.break_id, world.tools.projection))
    order = world.order(target.aggregate_id)
    assert (minor(order), order["status"]) == (total, "fulfilled")
    assert world.repair(FINANCE).actions == (), "no event says so yet, and a person decides that, too"
    item = world.break_of(target, "oltp_lake.order")
    world.approve(look(world.settings, item.break_id, world.tools.projection))
    assert "restate" in [action.kind for action in world.repair(FINANCE).actions]
    world.repair(FINANCE)
    assert [one.reason for one in world.waiting()] == []
    assert world.in_finance()[target.aggregate_id] == total


@pytest.mark.in_turn("repairs", seconds=17)
def test_an_approval_is_of_exactly_what_was_shown(world: World) -> None:
    target = world.place.take("order", "uncancelled")
    forging.reprice(world.place, target, 2)
    world.approve(world.look())
    forging.reprice(world.place, target, 3)
    assert world.repair().actions == () and world.waiting(), "another amount than the approved one"
    world.correct(look(world.settings, world.waiting()[0].break_id, world.tools.projection))
    assert world.repair().left == 0


@pytest.mark.in_turn("repairs", seconds=26)
def test_a_row_that_no_command_wrote_and_one_that_was_deleted(world: World) -> None:
    added = oltp.insert_adjustment(world.place)
    (key,) = added.aggregates
    shown = world.look()
    assert not shown.known.has_events and "no command wrote it" in world.waiting()[0].reason
    assert world.correct(shown)
    assert world.repair().left == 0 and world.waiting() == []
    adjustment_id = key.rpartition("/")[2]
    assert world.rows("select from oltp.adjustments where adjustment_id = %(id)s", id=adjustment_id) == []

    again = oltp.insert_adjustment(world.place)
    assert world.approve(world.look())
    report = world.repair()
    assert [action.kind for action in report.actions] == ["restate"] and report.is_clean, again

    oltp.delete_adjustment(world.place)
    shown = world.look()
    assert shown.known.root_version is None
    with pytest.raises(ConflictError, match="OLTP has no row"):
        world.approve(shown)
    assert world.correct(shown)
    assert world.repair().left == 0 and world.waiting() == []


@pytest.mark.in_turn("repairs")
def test_an_order_and_its_payment_in_another_currency_are_put_back_one_by_one(world: World) -> None:
    payment_id = world.place.take("payment", "captured").aggregate_id
    before = world.rows("select to_jsonb(p) from oltp.payments as p where payment_id = %(id)s", id=payment_id)
    ((order_id,),) = world.rows("select order_id from oltp.payments where payment_id = %(id)s", id=payment_id)
    for table in ("orders", "payments", "refunds"):
        world.place.change_oltp(f"update oltp.{table} set currency = 'KWD' where order_id = %(id)s", id=order_id)
    world.repair()
    for item in {one.aggregate_key: one for one in world.waiting()}.values():
        world.correct(look(world.settings, item.break_id, world.tools.projection))
    assert world.repair().left == 0 and world.waiting() == []
    assert world.rows("select to_jsonb(p) from oltp.payments as p where payment_id = %(id)s", id=payment_id) == before


@pytest.mark.long
def test_a_version_that_no_store_has_is_stated_again_and_what_is_left_of_it_is_accepted(world: World) -> None:
    payment_id = world.place.take("payment", "captured").aggregate_id
    lost = "where aggregate_id = %(id)s and aggregate_version = 1"
    world.place.change_oltp(f"delete from oltp.outbox {lost}", id=payment_id)
    world.place.change_lake(
        "delete from lake.raw.events where aggregate_id = $id and aggregate_version = 1", id=payment_id
    )
    shown = world.look()
    assert shown.known.lost_versions == (1,) and "finance leaves it out, with its order" in world.waiting()[0].reason
    assert world.approve(shown) == [shown.item.break_id]
    report = world.repair()
    assert [(action.kind, action.outcome) for action in report.actions] == [("restate", "done")]
    stated = world.rows(
        "select event_type from oltp.outbox where aggregate_id = %(id)s order by aggregate_version desc limit 1",
        id=payment_id,
    )
    assert stated == [("payment_restated",)]
    # The lake stays short of the event: it is not stated a second time, and a person accepts it.
    assert world.repair().actions == ()
    (left,) = world.waiting()
    ledger.accept(world.dsn, break_ids=[left.break_id], reason=WHY, by="ada")
    assert world.repair().left == 0 and world.waiting() == []
