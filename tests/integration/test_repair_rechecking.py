"""The comparison after a repair looks at what the repair touched, and at everything where that is not all."""

from __future__ import annotations

import psycopg
import pytest

from contracts.breaks import BreakState
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.verdicts import PairResult, Verdict
from repair.ledger import breaks
from repair.repair_run import repair_breaks
from repair.run_report import RepairReport
from stack.composition import comparison
from stack.composition.migrations import migrate_everything
from stack.composition.projections import PROJECTIONS
from stack.composition.reconciling import reconcile_now
from stack.composition.repairing import repairing_tools
from tests.integration.reconcile_world import open_shops, propagate

PAIR = "lake_account_view"
DAMAGE = "update read_models.account_orders set total_minor = total_minor - 1345 where pod = 'pod1' and order_id = %s"


@pytest.fixture
def orders(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three orders in pod1 that every copy has and that were compared; ids. The pod does not count as small."""
    monkeypatch.setattr(comparison, "WHOLE_ORDERS_MAX", 0)
    migrate_everything(settings)
    with open_shops(settings) as shops:
        for _ in range(3):
            shops[0].shipped()
        shops[1].shipped()
    for pod in settings.pods:
        propagate(settings, pod, PROJECTIONS)
    reconcile_now(settings, SILENT, None, pairs=[PAIR])
    with psycopg.connect(settings.read_models_dsn) as connection:
        rows = connection.execute(
            "select order_id::text from read_models.account_orders where pod = 'pod1' order by order_id"
        )
        return [row[0] for row in rows]


def damage(settings: Settings, statement: str, *bound: str) -> None:
    with psycopg.connect(settings.read_models_dsn) as connection:
        assert connection.execute(statement, bound).rowcount > 0


def repaired(settings: Settings) -> tuple[RepairReport, PairResult]:
    with repairing_tools(settings, SILENT) as tools:
        report = repair_breaks(tools, pods=["pod1"])
    (result,) = report.results
    assert result.verdict is Verdict.CONSISTENT
    return report, result


def test_only_what_the_repair_touched_is_compared_again(settings: Settings, orders: list[str]) -> None:
    damage(settings, DAMAGE, orders[0])
    reconcile_now(settings, SILENT, None, pairs=[PAIR])
    # Outside of the scope nothing is claimed: what happens there meanwhile stays for the sweep to find.
    damage(settings, DAMAGE, orders[1])
    report, result = repaired(settings)
    assert report.settled is not None and report.settled.repaired == 1
    assert result.scope is not None and result.scope.ids == {orders[0]} and result.scope.ranges == ()
    assert (result.cut or 0) > (report.breaks[0].first_seen_cut or 0) or result.moment is not None

    reconcile_now(settings, SILENT, None, pairs=[PAIR])
    (open_,) = breaks(settings.control_dsn, states=[BreakState.OPEN])
    assert open_.key[-1] == orders[1] or orders[1] in str(open_.aggregate_key)


@pytest.mark.in_turn
def test_what_has_breaks_besides_is_compared_with_it(settings: Settings, orders: list[str]) -> None:
    damage(settings, DAMAGE, orders[0])
    damage(settings, DAMAGE, orders[1])
    reconcile_now(settings, SILENT, None, pairs=[PAIR])
    first = breaks(settings.control_dsn, states=[BreakState.OPEN])[0]
    with repairing_tools(settings, SILENT) as tools:
        report = repair_breaks(tools, break_ids=[first.break_id])
    (result,) = report.results
    assert result.verdict is Verdict.INCONSISTENT
    assert result.scope is not None and result.scope.ids == {orders[0], orders[1]}
    assert [one.state for one in breaks(settings.control_dsn, states=[BreakState.OPEN])] == [BreakState.OPEN]


@pytest.mark.in_turn
def test_after_a_table_was_emptied_everything_is_compared(settings: Settings, orders: list[str]) -> None:
    damage(settings, "delete from read_models.account_orders where pod = 'pod1'")
    reconcile_now(settings, SILENT, None, pairs=[PAIR])
    report, result = repaired(settings)
    assert report.settled is not None and report.settled.repaired == 3
    assert result.scope is None and result.compared >= 3


@pytest.mark.in_turn
def test_without_a_complete_comparison_before_it_everything_is_compared(settings: Settings, orders: list[str]) -> None:
    damage(settings, DAMAGE, orders[0])
    reconcile_now(settings, SILENT, None, pairs=[PAIR])
    with psycopg.connect(settings.control_dsn) as connection:
        connection.execute("delete from reconcile.coverage")
    _, result = repaired(settings)
    assert result.scope is None
