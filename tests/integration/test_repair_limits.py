"""What stops a repair: N tries, a budget, somebody else at work; what happens in the middle of it, and to its audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from psycopg import errors, sql

from bench.started import SEED
from bench.world import trade
from contracts.breaks import Break, BreakState
from contracts.clock import utc_now
from contracts.errors import TieoutError
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.verdicts import Verdict
from drills.damages import account_view, fulfillment_view, log, oltp
from reconcile.results import save_results
from repair import audit, holding, ledger
from repair.repair_run import repair_breaks
from repair.run_report import RepairReport
from repair.values import Budget
from stack.composition.damaging import place_of
from stack.composition.migrations import migrate_everything
from stack.composition.repairing import repairing_tools
from stack.looking.outages import outage
from tests.conftest import Cluster
from tests.integration.reconcile_world import VIEW_PAIRS, DamagedPod

PAIRS = VIEW_PAIRS


class World(DamagedPod):
    """A pod and its views, damaged by hand and compared when asked."""

    def compare(self, *pairs: str) -> None:
        super().compare(*pairs or PAIRS)

    def repair(self, budget: Budget | None = None, **steps: Callable[[], object]) -> RepairReport:
        """Repair; `steps` say what happens at a step of it, named with underscores."""

        def on_step(name: str) -> None:
            if what := steps.get(name.replace(" ", "_")):
                what()

        return repair_breaks(replace(self.tools, on_step=on_step), budget=budget, pods=("pod1",))

    def breaks(self, *states: BreakState) -> list[Break]:
        return ledger.breaks(self.dsn, states=states or None, limit=None)

    def newest(self) -> Break:
        return self.breaks()[-1]


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    migrate_everything(settings)
    trade(settings, orders=30, seed=SEED, processes=0)
    with repairing_tools(settings, SILENT) as tools:
        yield World(tools=tools, place=place_of(settings, "pod1"))


@contextmanager
def taking_control_away(cluster: Cluster, dsn: str) -> Iterator[Callable[[], None]]:
    """Give what ends every session of the control database and lets none begin, as when its server is killed."""
    database = str(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"])
    name = sql.Identifier(database)
    with psycopg.connect(cluster.superuser_dsn(), autocommit=True) as server:

        def take_away() -> None:
            server.execute(sql.SQL("alter database {} allow_connections false").format(name))
            server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])

        try:
            yield take_away
        finally:
            server.execute(sql.SQL("alter database {} allow_connections true").format(name))


STEPS = ("claimed", "begun_rebuild_keys", "applied_rebuild_keys", "recorded")


@pytest.mark.long
def test_a_control_database_that_is_killed_in_the_middle_loses_and_doubles_nothing(
    world: World, postgres: Cluster
) -> None:
    for step in STEPS:
        account_view.change_amount(world.place)
        world.compare()
        (damaged,) = world.breaks(BreakState.OPEN)
        with taking_control_away(postgres, world.dsn) as take_away, pytest.raises(Exception) as repairing:
            world.repair(None, **{step: take_away})
        assert outage(repairing.value) or isinstance(repairing.value, TieoutError), f"{step}: {repairing.value!r}"
        # It is back: nobody has to wait for a lease, and the next repair finishes what was begun.
        report = world.repair()
        assert not report.left and not report.busy_pods, step
        found = ledger.find_break(world.dsn, damaged.break_id)
        assert found.state in (BreakState.REPAIRED, BreakState.VANISHED), (step, found)
        assert holding.interrupted_runs(world.dsn, ["pod1"]) == []
        assert {action.outcome for action in audit.actions(world.dsn, now=utc_now())} <= {
            "done", "nothing_to_do", "interrupted",
        }, step  # fmt: skip

    # In the middle of a comparison: one sentence, and the same differences are found once it is back.
    account_view.change_amount(world.place)
    before = {item.break_id for item in world.breaks()}
    with taking_control_away(postgres, world.dsn) as take_away, pytest.raises(Exception) as comparing:
        take_away()
        world.compare()
    assert outage(comparing.value) or isinstance(comparing.value, TieoutError), repr(comparing.value)
    world.compare()
    assert len({item.break_id for item in world.breaks()} - before) == 1
    assert world.repair().is_clean


def refuse_writes(world: World, payload: str) -> None:
    """Let the view spoil, or refuse, whatever is written to its payments."""
    world.place.change_view(
        f"""create or replace function read_models.spoil() returns trigger language plpgsql as
            $body$ begin {payload} return new; end $body$""",
        """create or replace trigger spoil before insert or update on read_models.account_payments
           for each row execute function read_models.spoil()""",
    )


@pytest.mark.long
def test_a_repair_that_does_not_hold_or_fails_is_given_to_people_after_three_tries(world: World) -> None:
    for payload, reason, outcome in (
        # Written again, the row is spoiled as it was damaged: nothing has changed.
        ("new.captured_minor := new.captured_minor - 1;", "3 repairs did not hold", "nothing_to_do"),
        ("raise exception using errcode = '53100', message = 'the disk is full';", "did not hold", "failed"),
    ):
        account_view.change_amount(world.place)
        world.compare()
        refuse_writes(world, payload)
        states = []
        for _ in range(3):
            report = world.repair()
            assert [action.outcome for action in report.actions] == [outcome] and report.left == 1
            assert report.is_nothing_changed == (outcome == "nothing_to_do")
            states.append(world.newest().state)
        assert states == [BreakState.OPEN, BreakState.OPEN, BreakState.ESCALATED]
        assert reason in world.newest().reason and world.newest().repairs == 3
        assert world.repair().breaks == (), "people decide now"
        # What was in the way is gone, and a person has it tried again.
        world.place.change_view("drop trigger spoil on read_models.account_payments")
        ledger.reopen(world.dsn, by="ada", break_ids=[world.newest().break_id])
        assert world.repair().is_clean and world.newest().state is BreakState.REPAIRED


@pytest.mark.long
def test_a_pod_that_could_not_be_looked_at_is_compared_again_with_the_one_that_was_repaired(world: World) -> None:
    account_view.lose_row(world.place)
    world.compare()
    (found,) = world.breaks()
    (consistent,) = world.tools.recheck([found.pair], ("pod2",))
    unknown = replace(consistent, verdict=Verdict.UNKNOWN, reason="its store did not answer", checked_at=utc_now())
    save_results(world.dsn, [unknown])
    report = world.repair()
    assert report.is_clean
    assert {item.pod: item.verdict for item in report.results if item.pair == found.pair} == {
        "pod1": Verdict.CONSISTENT,
        "pod2": Verdict.CONSISTENT,
    }
    # Known again, it is left alone.
    account_view.change_status(world.place)
    world.compare()
    assert {item.pod for item in world.repair().results} == {"pod1"}


@pytest.mark.in_turn("repairs", seconds=16)
def test_a_budget_that_is_reached_stops_and_asks(world: World) -> None:
    for damage in (account_view.lose_row, account_view.change_status, fulfillment_view.lose_order):
        damage(world.place)
    world.compare()
    for budget in (Budget(breaks_max=1), Budget(actions_max=1)):
        report = world.repair(budget)
        asked = world.breaks(BreakState.ESCALATED)
        assert len(report.actions) == 1 and not report.is_clean and asked
        assert all("budget reached" in item.reason for item in asked)
        assert world.repair().breaks == (), "nothing more is done until a person says so"
        ledger.reopen(world.dsn, by="ada", break_ids=[item.break_id for item in asked])
        if budget.breaks_max == 1:
            assert world.repair().is_clean
            account_view.change_two_amounts(world.place)
            fulfillment_view.age_order(world.place)
            # One action within the last hour is one less: this budget counts over all runs.
            world.compare()
            done = audit.actions_since(world.dsn, utc_now() - timedelta(hours=1))
            report = world.repair(Budget(actions_max=done))
            assert report.actions == () and len(report.beyond_budget) == 3
            ledger.reopen(world.dsn, by="ada", break_ids=list(report.beyond_budget))
            assert world.repair().is_clean
            return


@pytest.mark.in_turn("repairs", seconds=21)
def test_the_log_is_not_written_again_from_an_outbox_that_somebody_changed(world: World) -> None:
    changed = oltp.change_event(world.place)
    world.compare("log_manifests")
    assert world.repair().actions == ()
    (disputed,) = world.breaks(BreakState.ESCALATED)
    assert disputed.kind == "different" and "changed after it was published" in disputed.reason
    log.lose_entry(world.place)
    world.compare("outbox_log")
    report = world.repair()
    asked = [item for item in world.breaks(BreakState.ESCALATED) if item.break_id != disputed.break_id]
    assert report.actions == () and asked and all("Settle that one first" in item.reason for item in asked)
    # A person puts the row back, and has the rest tried again.
    oltp.restore_event(world.place, changed)
    ledger.reopen(world.dsn, by="ada", break_ids=[item.break_id for item in world.breaks(BreakState.ESCALATED)])
    world.compare("log_manifests", "outbox_log")
    report = world.repair()
    assert [action.kind for action in report.actions] == ["republish"] and report.is_clean
    assert ledger.find_break(world.dsn, disputed.break_id).state is BreakState.VANISHED


@pytest.mark.in_turn("repairs", seconds=17)
def test_two_repairs_of_a_pod_never_meet_and_a_check_that_fails_again_changes_nothing(world: World) -> None:
    account_view.lose_row(world.place)
    world.compare()
    (found,) = world.breaks()
    others: list[RepairReport] = []

    def meanwhile() -> None:
        others.append(repair_breaks(world.tools, pods=("pod1",)))
        world.compare()  # the check fails again
        assert world.newest().state is BreakState.REPAIRING and world.newest().times_seen == 2

    report = world.repair(claimed=meanwhile)
    assert [other.busy_pods for other in others] == [("pod1",)] and others[0].breaks == ()
    assert report.is_clean and len(report.actions) == 1
    assert [item.break_id for item in world.breaks()] == [found.break_id]
    assert (world.newest().state, world.newest().repairs) == (BreakState.REPAIRED, 1)
    # The lock is the database's: it holds against a process that knows nothing of this one.
    account_view.lose_row(world.place)
    world.compare()
    with holding.holding_pods(world.dsn, ["pod1"]) as held:
        assert held.pods == ("pod1",) and world.repair().busy_pods == ("pod1",)
    assert world.repair().is_clean


@pytest.mark.in_turn("repairs", seconds=24)
def test_what_happens_in_the_middle_of_a_repair(world: World) -> None:
    # The same row is damaged again after it was mended: the comparison finds it, the next repair mends it.
    account_view.change_amount(world.place)
    world.compare()
    (item,) = world.breaks()
    again = f"update read_models.account_payments set currency = 'JPY' where payment_id = '{item.key[0]}'"
    report = world.repair(applied_rebuild_keys=lambda: world.place.change_view(again))
    assert report.left == 1 and world.newest().kind == "currency" and world.newest().state is BreakState.OPEN
    assert world.repair().is_clean

    # Somebody mends it by hand while it is planned, and a comparison ends it before it can be put before people.
    refund = oltp.refund_too_much(world.place)

    def corrected() -> None:
        oltp.correct_refund(world.place, refund)
        world.compare("oltp_identities", "oltp_lake.refund")

    world.compare("oltp_identities", "oltp_lake.refund")
    report = world.repair(evidence=corrected)
    assert report.actions == () and world.breaks(BreakState.OPEN, BreakState.REPAIRING) == []


@pytest.mark.in_turn("repairs")
def test_a_fault_of_the_owner_is_never_stated_again_even_if_only_its_copy_was_compared(world: World) -> None:
    done = oltp.change_payment_currency(world.place)
    world.compare("oltp_lake.payment")
    report = world.repair()
    assert report.actions == () and {item.pair for item in report.breaks} == {"oltp_lake.payment"}
    assert world.breaks()[0].state is BreakState.ESCALATED and "OLTP itself is at fault" in world.breaks()[0].reason
    assert [item.pair for item in world.breaks(BreakState.OPEN)] == ["oltp_identities"]
    assert world.repair().actions == () and world.breaks(BreakState.OPEN) == []
    oltp.correct_payment_currency(world.place, done)
    world.compare("oltp_identities", "oltp_lake.payment")
    assert {item.state for item in world.breaks()} == {BreakState.VANISHED}


@pytest.mark.in_turn("repairs", seconds=15)
def test_evidence_cannot_be_deleted_or_rewritten(world: World) -> None:
    account_view.lose_row(world.place)
    world.compare()
    assert world.repair().is_clean
    for statement in (
        "delete from trust.repair_actions",
        "truncate trust.repair_actions",
        "update trust.repair_actions set after = '{}'",
        "delete from trust.repair_runs",
        "delete from trust.break_history",
        "update trust.break_history set reason = 'nothing happened'",
        "delete from trust.breaks",
    ):
        with psycopg.connect(world.dsn) as connection, pytest.raises(errors.CheckViolation, match="is evidence"):
            connection.execute(statement.encode())
    # A hand that goes around that is noticed: the repair whose row is gone does not count as done.
    account_view.lose_row(world.place)
    world.compare()

    def gone() -> None:
        with psycopg.connect(world.dsn) as connection:
            connection.execute("alter table trust.repair_actions disable trigger user")
            connection.execute("delete from trust.repair_actions where ended_at is null")
            connection.execute("alter table trust.repair_actions enable trigger user")

    with pytest.raises(TieoutError, match="deleted evidence"):
        world.repair(applied_rebuild_keys=gone)
    assert world.newest().state is BreakState.OPEN
    assert world.repair().is_clean
