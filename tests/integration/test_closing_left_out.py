"""A version that is lost before anybody saw it: finance goes on without that order, says so everywhere, and closes."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.breaks import BreakState
from contracts.progress import SILENT
from contracts.settings import Settings
from repair import ledger
from repair.deciding import approve, look
from repair.repair_run import repair_breaks
from stack.composition.damaging import place_of
from stack.composition.reconciling import reconcile_now
from stack.composition.repairing import repairing_tools
from stack.looking.status import read_status
from tests.integration.finance_office import DECEMBER, JANUARY, Building, Office

pytestmark = pytest.mark.timeout(1200)


def lose(settings: Settings, aggregate_id: str, version: int) -> None:
    """Delete an event from the outbox before the relay has seen it, past every trigger."""
    place_of(settings, "pod1").change_oltp(
        "delete from oltp.outbox where aggregate_id = %(id)s and aggregate_version = %(version)s",
        id=aggregate_id,
        version=version,
    )


def unended(office: Office) -> list[Any]:
    states = [BreakState.OPEN, BreakState.ESCALATED, BreakState.REPAIRING]
    return ledger.breaks(office.settings.control_dsn, states=states, limit=None)


@pytest.mark.long
def test_one_lost_version_is_named_with_its_money_and_stops_nobodys_month(office: Office) -> None:
    office.at(DECEMBER)
    for shop in office.shops:
        shop.everything()
    order, payment = office.shops[0].paid()
    lose(office.settings, payment.payment_id, 1)
    assert not office.reconcile()

    # Both pods' builds are complete, and everything else ties; what differs is of that order, or a sum that lacks it.
    results = {(one.pair, one.pod): one.differences for one in latest(office)}
    assert all(differences == 0 for (_, pod), differences in results.items() if pod == "pod2")
    named = {found.aggregate_key for found in unended(office)} - {None}
    lost_key = f"{order.merchant_id}/payment/{payment.payment_id}"
    assert named == {lost_key, f"{order.merchant_id}/order/{order.order_id}"}
    assert {found.merchant_id for found in unended(office)} == {order.merchant_id}

    said_everywhere(office, lost_key, payment.captured_minor)
    people_are_told_why(office, lost_key)

    # The month waits for a person, who accepts what differs; then it closes for everybody, and says what it lacks.
    office.at(JANUARY)
    reasons = office.run("close", "2010-12", fails=True)["obstacles"]
    assert any(lost_key.rpartition("/")[2] in reason for reason in reasons)
    ids = [found.break_id for found in unended(office)]
    ledger.accept(office.settings.control_dsn, break_ids=ids, reason="its event is lost", by="ada")
    office.reconcile()
    closed = office.run("close", "2010-12", "--yes")
    assert closed["closed"] is True
    december = office.report("daily", "--period", "2010-12")
    assert december["certificate"]["left_out"][0]["aggregate_key"] == lost_key
    assert "accepted differences" in december["certificate"]["conclusion"]
    assert "left out of the figures (" in december["certificate"]["conclusion"]
    days = [row for row in december["rows"] if row["merchant_id"] == order.merchant_id]
    assert order.total_minor not in {row["placed_minor"] for row in days}

    it_is_taken_in_by_a_person(office, lost_key, payment.captured_minor)


def latest(office: Office) -> list[Any]:
    from reconcile.results import latest_results

    return [one for one in latest_results(office.settings.control_dsn) if one.cut is not None]


def said_everywhere(office: Office, lost_key: str, captured_minor: int) -> None:
    """Status, report, certificate and preview name it, with its money."""
    (sentence,) = read_status(office.settings).left_out or []
    assert lost_key in sentence and "the version before it is missing" in sentence and "captured" in sentence
    (found,) = office.report("daily")["certificate"]["left_out"]
    assert found["aggregate_key"] == lost_key and found["amounts"]["captured_minor"] == captured_minor
    preview = office.run("close", "2010-12", "--dry-run", fails=True)
    assert preview["left_out"][0][1] == lost_key


def people_are_told_why(office: Office, lost_key: str) -> None:
    """A repair mends nothing of it, builds nothing again and again, and says to people what they can do."""
    with repairing_tools(office.settings, SILENT) as tools:
        assert repair_breaks(tools, pods=("pod1",)).actions == ()
    waiting = unended(office)
    assert {found.state for found in waiting} == {BreakState.ESCALATED}
    assert all(lost_key in found.reason for found in waiting)


def it_is_taken_in_by_a_person(office: Office, lost_key: str, captured_minor: int) -> None:
    """Stated again, the order is in the next build: in the first open month, as late."""
    control = office.settings.control_dsn
    (lake,) = [
        found
        for found in ledger.breaks(control, states=[BreakState.ACCEPTED], limit=None)
        if found.aggregate_key == lost_key and found.pair.startswith("oltp_lake")
    ]
    ledger.reopen(control, break_ids=[lake.break_id], by="ada")
    with repairing_tools(office.settings, SILENT) as tools:
        shown = look(office.settings, lake.break_id, tools.projection)
        approve(office.settings, shown, by="ada", reason="the provider has the payment")
        assert [action.kind for action in repair_breaks(tools, pods=("pod1",)).actions] == ["restate"]
    reconcile_now(office.settings, SILENT, Building(settings=office.settings))  # type: ignore[arg-type]
    assert read_status(office.settings).left_out == []
    january = office.report("daily", "--period", "2011-01")
    assert captured_minor in {row["captured_minor"] for row in january["rows"] if row["posting"] == "late arrival"}
    assert january["certificate"]["left_out"] == []
