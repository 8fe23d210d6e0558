"""`tieout breaks` and `tieout explain`: what people see of a difference, and what they decide about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from cli.app import app
from contracts.clock import utc_now
from contracts.errors import IllegalTransitionError, InputError, NotFoundError
from contracts.settings import Settings
from contracts.verdicts import DifferenceClass, PairResult, Verdict
from derived.lake_connection import open_lake
from reconcile.comparison_run import run_pairs
from repair import ledger
from repair.ledger import Recorded
from stack.composition.comparison import build_reconcile_context
from stack.composition.draining import drain_everything
from stack.composition.migrations import migrate_everything
from stack.looking.status import read_status
from stack.upkeep.alerting import wanted_messages
from tests.integration.reconcile_world import Shop, carrying, open_shops
from tests.values import one_cent, result_of

Run = Callable[..., Any]
PAIR = "oltp_lake.order"
VIEW = "lake_account_view"


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """A shop in pod1, in a system whose every copy is up to date."""
    migrate_everything(settings)
    with open_shops(settings) as shops:
        yield shops[0]


def compared(settings: Settings) -> tuple[dict[str, PairResult], Recorded]:
    """Compare both pairs in pod1, carrying the cut to the lake first, and record what was found."""
    real = build_reconcile_context(settings, lag_seconds_max=10)

    results = run_pairs(carrying(real, settings, ("lake",)), (PAIR, VIEW), ["pod1"])
    return {result.pair: result for result in results}, ledger.record(settings.control_dsn, results, run="by hand")


def test_a_difference_is_found_followed_mended_by_hand_and_vanishes(settings: Settings, shop: Shop, run: Run) -> None:
    lost, _, refund = shop.refunded()
    kept = shop.order()
    drain_everything(settings)
    with open_lake(settings) as lake:
        lake.execute(
            "create temporary table saved as from lake.raw.events where aggregate_id = $id", {"id": lost.order_id}
        )
        lake.execute("delete from lake.raw.events where aggregate_id = $id", {"id": lost.order_id})

        answer = run("reconcile", "--pair", PAIR, "--pair", VIEW)
        assert answer["ties"] is False and answer["breaks"]["breaks_opened"] > 0
        opened = answer["breaks"]["breaks_opened"]
        _, again = compared(settings)
        assert (again.breaks_opened, again.breaks_seen) == (0, opened)

        listed = run("breaks", "list", "--pair", PAIR)
        assert listed["counts"]["open"] == len(listed["breaks"]) and {one["pod"] for one in listed["breaks"]} == {
            "pod1"
        }
        (group,) = listed["groups"]
        assert (group["kind"], group["keys"], group["is_ended"]) == ("missing", len(listed["breaks"]), False)
        root = next(one for one in listed["breaks"] if one["entity"] == "orders")
        assert root["aggregate_key"] == f"united-kingdom/order/{lost.order_id}"
        assert (root["key"], root["times_seen"], root["owner"]) == ([lost.order_id], 2, "data-platform")
        assert run("breaks", "list", "--merchant", "eire")["breaks"] == []
        text = run("breaks", "list", as_json=False)
        assert f"orders {lost.order_id}" in text and f"{opened} open" in text
        assert read_status(settings).breaks == {"open": opened, "repairing": 0, "escalated": 0, "accepted": 0}

        story = run("explain", lost.order_number)
        sections = {one["store"]: one["tables"] for one in story["sections"]}
        events = {one["event_type"]: one for one in sections["events"]["events"]}
        assert events["order_placed"]["lake"] == "not there" and events["order_placed"]["outbox"] == "there"
        assert events["payment_captured"]["lake"] == "there" and events["payment_captured"]["cut"] >= 1
        assert events["order_placed"]["log"].endswith(f"{events['order_placed']['cut']}-0")
        assert root["break_id"] in [one["break_id"] for one in sections["breaks"]["breaks"]]
        assert sections["OLTP"]["orders"][0]["total_minor"] == lost.total_minor
        assert [one["refund_id"] for one in sections["OLTP"]["refunds"]] == [refund.refund_id]
        assert [one["order_id"] for one in sections["read models"]["account_orders"]] == [lost.order_id]
        assert {one["store"]: one["stands_at"] for one in story["sections"]}["warehouse"] == "not built yet"
        shown = run("explain", lost.order_id, as_json=False)
        assert f"Order {lost.order_number} ({lost.order_id}) of merchant united-kingdom, in pod1." in shown
        assert "not there" in shown and "Nothing in:" in shown
        for wrong in (["explain", "no-such-order"], ["explain", lost.order_number, "--merchant", "eire"]):
            with pytest.raises(NotFoundError, match="There is no order"):
                run(*wrong)

        lake.execute("insert into lake.raw.events from saved")
    mended, recorded = compared(settings)
    assert {one.verdict for one in mended.values()} == {Verdict.CONSISTENT} and recorded.breaks_vanished == opened
    shown = run("breaks", "show", str(root["break_id"]))
    assert shown["state"] == "vanished" and "found the key in order" in shown["reason"]
    assert [change["to_state"] for change in shown["history"]] == ["open", "vanished"]
    assert shown["runbook"] == "docs/runbooks/lake.md" and shown["group"]["is_ended"]
    assert run("breaks", "list")["breaks"] == [] and len(run("breaks", "list", "--all")["breaks"]) == opened
    assert "everything that was compared agrees" in run("breaks", "list", as_json=False)
    assert kept.order_id not in json.dumps(run("breaks", "list", "--all")) and refund.order_id == lost.order_id

    waits_too_long(settings, kept.order_id)


def waits_too_long(settings: Settings, order_id: str) -> None:
    """An aggregate that both copies have parked is late at first, and a break of its own when it waits too long."""
    key = f"united-kingdom/order/{order_id}"
    parked_at = utc_now()
    park(settings, key, parked_at)
    late, recorded = compared(settings)
    assert {pair: (one.verdict, one.late_aggregates) for pair, one in late.items()} == {
        PAIR: (Verdict.LATE, (key,)),
        VIEW: (Verdict.LATE, (key,)),
    }
    # They looked at every other key, so they count as comparisons; nothing is opened and nothing ended.
    assert recorded == Recorded(run="by hand", taken_in=((PAIR, "pod1"), (VIEW, "pod1")))
    park(settings, key, parked_at - timedelta(hours=1))
    _, recorded = compared(settings)
    assert (recorded.breaks_opened, len(recorded.opened_group_ids)) == (2, 2)
    breaks = ledger.breaks(settings.control_dsn, aggregate_keys=[key])
    assert {(one.pair, one.kind, one.entity, one.key) for one in breaks} == {
        (pair, DifferenceClass.PARKED, "parked", (key,)) for pair in (PAIR, VIEW)
    }
    assert {column.column: column.left for column in breaks[0].columns}["error"] == "it has no such field"
    park(settings, key, None)
    _, recorded = compared(settings)
    assert recorded.breaks_vanished == 2


def park(settings: Settings, key: str, parked_at: datetime | None) -> None:
    """Write an event of the aggregate as parked, or take it away again, in the lake and in the account view."""
    row = ("pod1", key, "event-1", 1, 1, "{}", "it has no such field", parked_at)
    with open_lake(settings) as lake:
        lake.execute("delete from lake.raw.parked")
        if parked_at:
            lake.execute("insert into lake.raw.parked values ($1, $2, $3, $4, $5, $6, $7, $8)", row)
    with psycopg.connect(settings.read_models_dsn) as views:
        views.execute("delete from read_models.parked_events")
        if parked_at:
            columns = "pod, aggregate_key, event_id, cut, position, event, error, parked_at"
            views.execute(
                f"insert into read_models.parked_events (projection, {columns}) "
                "values ('account_view', %s, %s, %s, %s, %s, %s, %s, %s)",
                row,
            )


ONE_INCIDENT = result_of(
    "operational_finance.orders", Verdict.INCONSISTENT, cut=7, compared=10, sample=(one_cent("a"), one_cent("b"))
)


def test_people_decide_on_breaks_and_every_decision_is_kept(settings: Settings, run: Run) -> None:
    assert run("breaks", "list")["breaks"] == [], "a deployment from before there was a ledger gets one"
    ledger.record(settings.control_dsn, [ONE_INCIDENT], run="sweep")
    assert run("breaks", "assign", "1", "--to", "grace [team]", "--by", "ada") == {"break_ids": [1]}
    shown = run("breaks", "accept", "1", "--reason", "Known [x].", "--dry-run", as_json=False)
    assert "total -0.01 GBP" in shown and "In sum, total: finance less operations is -0.01 GBP." in shown
    with pytest.raises(InputError, match="--yes"):
        run("breaks", "accept", "1", "--reason", "Known [x].")
    assert run("breaks", "list", "--state", "accepted")["counts"] == {"accepted": 0}
    assert run("breaks", "accept", "1", "--reason", "Known [x].", "--by", "ada", "--yes") == {"break_ids": [1]}
    assert run("breaks", "list", "--state", "accepted")["counts"] == {"accepted": 1}
    text = run("breaks", "show", "1", as_json=False)
    assert "accepted" in text and "looked after by grace [team]" in text and "Known [x]." in text
    assert "total_minor" not in text and "-0.01 GBP" in text and "docs/runbooks/warehouse.md" in text
    assert "2 breaks (1, 2)" in run("breaks", "assign", "--group", "1", "--to", "finance", as_json=False)
    assert run("breaks", "accept", "--group", "1", "--reason", "Both.", "--yes") == {"break_ids": [2]}
    assert run("breaks", "reopen", "--group", "1", "--reason", "Not so.", "--by", "grace") == {"break_ids": [1, 2]}
    history = run("breaks", "show", "2")["history"]
    assert [(one["from_state"], one["to_state"]) for one in history] == [
        (None, "open"),
        ("open", "open"),
        ("open", "accepted"),
        ("accepted", "open"),
    ]
    assert (history[-1]["by"], history[-1]["reason"]) == ("grace", "Not so.") and history[1]["by"] != ""
    listed = run("breaks", "list", "--limit", "1", as_json=False)
    assert "1 of 2 are listed (--limit, --group)" in listed and "total -0.01 GBP" in listed
    with pytest.raises(IllegalTransitionError, match="Break 1 is open and cannot become open"):
        run("breaks", "reopen", "1")
    for wrong in (["accept", "--reason", "x"], ["accept", "1", "--group", "1", "--reason", "x"]):
        with pytest.raises(InputError, match="by their numbers"):
            run("breaks", *wrong)
    with pytest.raises(NotFoundError, match="There is no break 99"):
        run("breaks", "show", "99")


def test_an_incident_of_10_000_breaks_is_one_and_hides_no_other(settings: Settings, run: Run) -> None:
    migrate_everything(settings)
    large = replace(
        ONE_INCIDENT,
        different=10_000,
        classes={"amount": 10_000},
        sample=tuple(one_cent(f"{n}") for n in range(10_000)),
    )
    small = replace(ONE_INCIDENT, pair="lake_account_view", sample=(one_cent("a"),), different=1, classes={"amount": 1})
    recorded = ledger.record(settings.control_dsn, [large, small], run="sweep")
    assert (len(recorded.opened_group_ids), recorded.breaks_opened) == (2, 10_001)
    listed = run("breaks", "list")
    assert [(group["keys"], group["pair"]) for group in listed["groups"]] == [
        (10_000, "operational_finance.orders"),
        (1, "lake_account_view"),
    ]
    assert len(listed["breaks"]) == 26 and {one["group_id"] for one in listed["breaks"]} == {1, 2}
    assert [one["group_id"] for one in run("breaks", "list", "--limit", "1")["breaks"]] == [1]
    assert len(wanted_messages(settings, utc_now()).messages) == 2, "people are told of incidents, not of keys"
    assert len(run("breaks", "assign", "--group", "1", "--to", "grace")["break_ids"]) == 10_000


@pytest.mark.parametrize(
    "command", [("breaks", name) for name in ("list", "show", "assign", "accept", "reopen")] + [("explain",)]
)
def test_every_command_explains_itself_and_can_answer_in_json(command: tuple[str, ...]) -> None:
    outcome = CliRunner().invoke(app, [*command, "--help"])
    assert outcome.exit_code == 0 and "--json" in outcome.output and len(outcome.output) > 200
