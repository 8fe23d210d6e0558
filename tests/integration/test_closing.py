"""Closing months on real servers: what stands in the way, what is frozen, where late arrivals go, what ties."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.errors import ConflictError, InputError, PeriodNotReadyError
from contracts.verdicts import Difference, PairResult, Verdict
from derived.lake_connection import open_lake
from derived.reports import REPORTS, Connection
from derived.warehouse import build_warehouse
from finance.closing import close_period
from finance.closings import FILE, noted_closings, remember
from finance.periods import Period
from finance.verification import verify_file
from reconcile.results import latest_results, save_results
from repair import ledger
from stack.composition.certificate_evidence import gather_proof, hold_proof
from tests.integration import test_books
from tests.integration.finance_office import DECEMBER, FORMATS, JANUARY, Answer, Office, gather
from tests.values import one_cent

pytestmark = pytest.mark.timeout(1200)

LATE_DECEMBER = datetime(2010, 12, 31, 23, 30, tzinfo=UTC)
BALANCES = ("merchant-payable", "trial-balance")


def sums(report: Answer, *, postings: tuple[str, ...] | None = None) -> dict[tuple[str, ...], dict[str, int]]:
    """Return the signed sums of a report's amounts and counts by its key without days and months."""
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for row in report["rows"]:
        if postings is not None and row["posting"] not in postings:
            continue
        key = tuple(row[name] for name in ("merchant_id", "currency", "account", "jurisdiction") if name in row)
        into = found.setdefault(key, {})
        for name, value in row.items():
            if name.endswith(("_minor", "_micro", "_count")):
                into[name] = into.get(name, 0) + value
    return {key: values for key, values in found.items() if any(values.values())}


def added(*parts: dict[tuple[str, ...], dict[str, int]]) -> dict[tuple[str, ...], dict[str, int]]:
    """Return the sum of several."""
    found: dict[tuple[str, ...], dict[str, int]] = {}
    for part in parts:
        for key, values in part.items():
            into = found.setdefault(key, dict.fromkeys(values, 0))
            for name, value in values.items():
                into[name] += value
    return {key: values for key, values in found.items() if any(values.values())}


def every_identity_holds(reports: Mapping[str, Answer]) -> None:
    """The trial balance sums to zero per posting; days, payables and tax are what the journal has on its accounts."""
    accounts: dict[tuple[str, str, str | None, str], int] = {}
    balances: dict[tuple[str, str | None, str], int] = {}
    for row in reports["trial-balance"]["rows"]:
        place = (row["posting"], row["late_for"], row["currency"])
        balances[place] = balances.get(place, 0) + row["balance_micro"]
        account = (row["account"], *place)
        accounts[account] = accounts.get(account, 0) + row["balance_micro"]
    assert balances and set(balances.values()) == {0}
    for name, column, account_names, sign in (
        ("daily", "net_minor", ("cash", "gift_card_liability", "gift_card_grants", "gift_card_breakage"), 1),
        ("daily", "tax_minor", ("tax_payable",), -1),
        ("daily", "sales_micro", ("sales",), -1),
        ("daily", "discount_minor", ("discounts",), 1),
        ("tax", "tax_minor", ("tax_payable",), -1),
        ("merchant-payable", "payable_minor", ("merchant_payable", "merchant_disputes"), -1),
    ):
        found: dict[tuple[str, str | None, str], int] = {}
        for row in reports[name]["rows"]:
            key = (row["posting"], row["late_for"], row["currency"])
            micro = row[column] * (10_000 if column.endswith("_minor") else 1)
            found[key] = found.get(key, 0) + sign * micro
        wanted: dict[tuple[str, str | None, str], int] = {}
        for (account_name, *rest), value in accounts.items():
            posting, late_for, currency = rest
            if account_name in account_names and (name in BALANCES or posting != "brought forward"):
                key = (str(posting), late_for, str(currency))
                wanted[key] = wanted.get(key, 0) + value
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in wanted.items() if v}, (name, column)


def all_reports(office: Office, *options: str) -> dict[str, Answer]:
    return {name: office.report(name, *options) for name in REPORTS}


@pytest.mark.parametrize("is_rebuilt", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_month_is_closed_once_and_stays_as_it_was(office: Office, tmp_path: Path, is_rebuilt: bool) -> None:
    office.at(DECEMBER)
    for shop in office.shops:
        shop.everything()
        shop.paid_by_card()
    late_order, late_payment = office.shops[0].shipped()
    refused = office.run("close", "2010-12", fails=True)
    assert refused["closed"] is False
    assert any("never compared" in reason for reason in refused["obstacles"])
    with pytest.raises(InputError, match="write a month"):
        office.run("close", "December")

    assert office.reconcile()
    preliminary = office.report("daily", "--period", "2010-12")
    assert preliminary["standing"] == "preliminary"
    assert preliminary["certificate"]["conclusion"].startswith("Ties: ")
    everything_in_the_way_is_named(office)
    two_at_once(office, Period(2010, 12))
    before = office.files(tmp_path / "before", "2010-12")
    for name in (f"daily.{one}" for one in FORMATS):
        assert office.run("verify", str(tmp_path / "before" / name))["books"].startswith("The books have it, byte for")
    with pytest.raises(ConflictError, match="2010-12 is closed"):
        office.run("close", "2010-12")
    december = all_reports(office, "--period", "2010-12")
    every_identity_holds(december)

    # December's days go on: a refund of the last half hour, and one whose order nobody knew of.
    office.at(LATE_DECEMBER)
    refund = office.shops[0].give_back(late_order, late_payment)
    unknown = office.shops[1].paid()
    office.at(JANUARY)
    for shop in office.shops:
        shop.refunded()
        shop.cancelled_in_part()
    assert office.reconcile()

    january = all_reports(office, "--period", "2011-01")
    every_identity_holds(january)
    late = [row for row in january["daily"]["rows"] if row["posting"] == "late arrival"]
    assert {(row["late_for"], row["merchant_id"], row["sales_date"]) for row in late} == {
        ("2010-12", "united-kingdom", "2010-12-31"),
        ("2010-12", "eire", "2010-12-31"),
    }
    by_merchant = {row["merchant_id"]: row for row in late}
    assert by_merchant["united-kingdom"]["refunded_minor"] == refund.amount_minor
    assert by_merchant["eire"]["placed_minor"] == unknown[0].total_minor
    closed_and_late_are_all(office, december, january)

    assert office.files(tmp_path / "later", "2010-12") == before
    assert office.run("close", "2011-01", "--by", "eve", "--yes")["closed_by"] == "eve"
    assert all_reports(office, "--period", "2011-01")["tax"]["rows"] == january["tax"]["rows"]
    february = all_reports(office, "--period", "2011-02")
    assert {row["posting"] for row in february["trial-balance"]["rows"]} == {"brought forward"}
    assert sums(february["trial-balance"]) == sums(january["trial-balance"])
    assert february["daily"]["rows"] == []

    if is_rebuilt:
        a_warehouse_from_nothing_changes_nothing(office, before, tmp_path / "rebuilt")
        a_mart_may_get_columns_and_lose_none(office)
    what_was_changed_is_found(office, tmp_path)


def a_warehouse_from_nothing_changes_nothing(office: Office, before: Mapping[str, bytes], folder: Path) -> None:
    """Closed months are computed again from a warehouse that was built from nothing, and are what was certified."""
    build_warehouse(office.settings, full_refresh=True)
    audits = office.run("periods", "--verify")["periods"]
    assert [(one["period"], one["audit"]["is_intact"], one["audit"]["files"]) for one in audits] == [
        ("2010-12", True, 20),
        ("2011-01", True, 20),
    ]
    assert office.files(folder, "2010-12") == before


def closed_and_late_are_all(office: Office, december: Mapping[str, Answer], january: Mapping[str, Answer]) -> None:
    """What was closed, what came late and what January has are everything; days and days only, for a flow."""
    everything = all_reports(office)
    for name in REPORTS:
        own = sums(january[name], postings=("in period", "late arrival"))
        assert added(sums(december[name]), own) == sums(everything[name]), name
    for name in BALANCES:
        assert sums(january[name], postings=("brought forward",)) == sums(december[name])
        assert sums(january[name]) == sums(everything[name])


def a_mart_may_get_columns_and_lose_none(office: Office) -> None:
    """A column that is added, wherever it stands, is no fault of months that were closed without it; one gone is."""
    places = {"added": "0 as gift_minor, *, 0 as voucher_minor", "gone": "* exclude (refunded_minor)"}
    found: dict[str, list[str]] = {}
    with open_lake(office.settings) as lake:
        text = "select sql from duckdb_views() where database_name = 'lake' and view_name = 'daily_sales'"
        ((made,),) = lake.execute(text).fetchall()
        _, body = re.split(r" as ", made.rstrip(";"), maxsplit=1, flags=re.IGNORECASE)
        named = "create or replace view lake.marts.daily_sales"
        for name, chosen in places.items():
            lake.execute(f"{named} as select {chosen} from ({body}) as before")
            shown = office.report("daily", "--period", "2011-03")["columns"]
            assert ("gift_minor" in shown, "refunded_minor" in shown) == ((name == "added"),) * 2
            audits = office.run("periods", "--verify", fails=name == "gone")["periods"]
            found[name] = [fault for one in audits for fault in one["audit"]["faults"]]
        lake.execute(f"{named} as {body}")
    assert found["added"] == []
    assert (
        found["gone"]
        == [
            "daily cannot be computed again: the marts have no column refunded_minor any more",
        ]
        * 2
    )


def what_was_changed_is_found(office: Office, folder: Path) -> None:
    """A figure changed in a file, certificate and all, and a file changed in the books by who owns the tables."""
    path = folder / "before" / "daily.json"
    value = json.loads(path.read_text())
    value["rows"][0]["net_minor"] += 1
    path.write_text(json.dumps(value))
    assert office.run("verify", str(path), "--offline", fails=True)["is_intact"] is False
    value["certificate"]["content_sha256"] = verify_file(path).found_sha256
    path.write_text(json.dumps(value))
    forged = office.run("verify", str(path), fails=True)
    assert forged["is_intact"] is True and forged["books"].startswith("The books have other figures")

    with psycopg.connect(office.settings.control_dsn) as connection:
        connection.execute("alter table finance.artefacts disable trigger user")
        connection.execute(
            "update finance.artefacts set content = 'x', sha256 = encode(sha256('x'), 'hex') "
            "where period = '2010-12' and report = 'tax' and format = 'csv'"
        )
    changed, other = office.run("periods", "--verify", fails=True)["periods"]
    assert (other["period"], other["audit"]["is_intact"], other["audit"]["files"]) == ("2011-01", True, 20)
    assert changed["audit"]["faults"] == ["the csv file of tax is not the one that was certified"]


ONE_PENNY = one_cent("an-order", day="2010-12-09")


def differing(result: PairResult, *differences: Difference) -> PairResult:
    """Return the result of a comparison that found these differences."""
    verdict = Verdict.INCONSISTENT if differences else Verdict.CONSISTENT
    return replace(result, verdict=verdict, different=len(differences), sample=differences, classes={"amount": 1})


def refusal(
    office: Office, month: Period, now: datetime | None = None, *, are_closings_lost: bool = False
) -> tuple[str, ...]:
    """Return what stands in the way of closing a month; nothing is written."""
    clock: Callable[[], datetime] = (lambda: now) if now else (lambda: datetime.now(UTC))
    with pytest.raises(PeriodNotReadyError) as refused:
        close_period(office.settings, month, gather(office, month), hold_proof, by="ada", clock=clock)
    assert office.run("periods", fails=are_closings_lost)["periods"] == []
    return refused.value.reasons


def everything_in_the_way_is_named(office: Office) -> None:
    """After one comparison that ties: refusals of all kinds, the last of them settled by accepting a difference."""
    dsn, december = office.settings.control_dsn, Period(2010, 12)
    reason, empty = refusal(office, december.following)
    assert reason == "2010-12 comes before, has entries and is not closed; close it first"
    assert empty.startswith("the month is empty")
    (not_ended,) = refusal(office, december, now=datetime(2010, 12, 20, tzinfo=UTC))
    assert not_ended.startswith("the month has not ended")
    future = Period(datetime.now(UTC).year + 1, 1)
    assert any("before the month's end" in one for one in refusal(office, future))

    orders = next(one for one in latest_results(dsn) if (one.pair, one.pod) == ("operational_finance.orders", "pod1"))
    # The ledger takes no second word about a cut, unless it comes much later.
    later = replace(differing(orders, ONE_PENNY), checked_at=orders.checked_at + timedelta(days=1))
    ledger.record(dsn, [later], run="a test")
    reasons = refusal(office, december)
    assert reasons == ("break 1 is open: marts.orders an-order (operational_finance.orders in pod1, amount)",)
    save_results(dsn, [differing(orders, ONE_PENNY)])
    assert len(refusal(office, december)) == 2
    ledger.accept(dsn, break_ids=[1], reason="Known since August.", by="ada")
    save_results(dsn, [replace(orders, cut=None, verdict=Verdict.UNKNOWN, compared=0, reason="It fell.")])
    (unknown,) = refusal(office, december)
    assert unknown == "operational_finance.orders in pod1 at cut None is unknown: It fell; run `tieout reconcile`"
    late = replace(differing(orders), cut=None, verdict=Verdict.LATE, reason="The lake is behind.")
    save_results(dsn, [late])
    (reason,) = refusal(office, december)
    assert reason.endswith("at cut None is late: The lake is behind; run `tieout reconcile`")
    save_results(dsn, [replace(late, late_keys=2, late_aggregates=("eire/order/a", "eire/order/b"))])
    (reason,) = refusal(office, december)
    assert reason.endswith("at cut None: the events of 2 keys are parked and were not compared")
    save_results(dsn, [differing(orders, ONE_PENNY)])
    with psycopg.connect(dsn) as connection:
        change = "update reconcile.figures set figures = jsonb_set(figures, '{0,finance}', %s) where pod = 'pod2'"
        before = connection.execute("select figures -> 0 -> 'finance' from reconcile.figures where pod = 'pod2'")
        (right,) = before.fetchone() or (None,)
        connection.execute(change, ["12345"])
        connection.commit()
        (unequal,) = refusal(office, december)
        assert unequal == "order_count in GBP of pod2 differs in total, although no key does"
        connection.execute(change, [str(right)])
    note = Path(str(office.settings.lake_backup_path)) / FILE
    remember(note.parent, [test_books.closed("2010-11", pod1=1)])
    (forgotten,) = refusal(office, december, are_closings_lost=True)
    assert forgotten.startswith("2010-11 was closed on 2011-02-03") and "set back" in forgotten
    note.unlink()


def two_at_once(office: Office, period: Period) -> None:
    """Of two closings one wins, whichever; the accepted break is in what was certified."""
    is_inside, may_go_on = threading.Event(), threading.Event()

    def gather_late(lake: Connection) -> Any:
        is_inside.set()
        assert may_go_on.wait(300)
        return gather_proof(office.settings, lake, period)

    thread = threading.Thread(target=lambda: close_period(office.settings, period, gather_late, hold_proof, by="ada"))
    thread.start()
    assert is_inside.wait(300)
    with pytest.raises(ConflictError, match="Another period is being closed"):
        close_period(office.settings, period, gather(office, period), hold_proof, by="eve")
    may_go_on.set()
    thread.join()
    assert [one.period for one in noted_closings(office.settings.lake_backup_path)] == ["2010-12"]
    (closed,) = office.run("periods")["periods"]
    assert set(closed["certificate"]["epochs"]) == {"pod1", "pod2"}
    assert (closed["period"], closed["closed_by"]) == ("2010-12", "ada")
    assert closed["certificate"]["breaks_accepted"] == 1
    assert closed["certificate"]["conclusion"].startswith("Ties but for 1 accepted difference")
    certificate = office.report("daily", "--period", "2010-12")["certificate"]
    (found,) = certificate["breaks"]
    assert (found["state"], found["reason"], found["amounts"]) == (
        "accepted",
        "Known since August.",
        {"total_minor": -1},
    )
