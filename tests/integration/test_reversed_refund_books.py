"""A refund that fails late, with known right values: its day keeps it, and the day of failing takes it back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.events.merchant import TaxRate
from oltp.commands.reverse_refund import ReverseRefund
from tests.conftest import Cluster
from tests.integration.finance_office import DECEMBER, JANUARY, Office
from tests.integration.test_taxed_orders import accounts_of, do, give_back, offer, open_for, place, verdicts

pytestmark = pytest.mark.timeout(1200)

DAY = timedelta(days=1)


def sell(office: Office) -> Any:
    """12.00 sold on the 9th and given back on the 10th of December."""
    open_for(office, "tea", "GBP", "GB", [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)])
    offer(office, "tea", "TEA", 10_000_000, "standard")
    order, payment = place(office, "tea", "TEA")
    office.at(DECEMBER + DAY)
    return give_back(office, "tea", order, payment, None, 1)


def days_of(office: Office) -> dict[str, tuple[int, ...]]:
    names = ("captured_minor", "refunded_minor", "net_minor", "tax_minor")
    rows = office.report("daily")["rows"]
    return {str(row["sales_date"]): tuple(row[name] for name in names) for row in rows if row["merchant_id"] == "tea"}


@pytest.mark.in_turn("right values", seconds=60)
def test_right_values_on_both_days_and_in_both_months(office: Office, postgres: Cluster, tmp_path: Path) -> None:
    refund = sell(office)
    assert office.reconcile()
    december = {"2010-12-09": (1_200, 0, 1_200, 200), "2010-12-10": (0, 1_200, -1_200, -200)}
    assert days_of(office) == december
    assert office.run("close", "2010-12", "--yes")["closed"] is True
    closed = office.files(tmp_path / "closed", "2010-12")

    office.at(JANUARY)
    do(office, ReverseRefund(merchant_id="tea", refund_id=refund.refund_id, failure_reason="The account is closed."))
    assert office.reconcile()
    assert days_of(office) == december | {"2011-01-17": (0, -1_200, 1_200, 200)}
    # The customer has paid 12.00 and has nothing back; the merchant is owed all of it again.
    assert accounts_of(office, "tea") == {
        "cash": 12_000_000,
        "clearing": 0,
        "sales": -10_000_000,
        "tax_payable": -2_000_000,
        "refunds": 0,
        "merchant_share": 12_000_000,
        "merchant_payable": -12_000_000,
    }
    (owed,) = [row for row in office.report("merchant-payable")["rows"] if row["merchant_id"] == "tea"]
    assert (owed["captured_minor"], owed["refunded_minor"], owed["payable_minor"]) == (1_200, 0, 1_200)

    assert office.files(tmp_path / "later", "2010-12") == closed

    # A moment of failing that somebody changes past everything is another day in operations alone.
    database = psycopg.conninfo.conninfo_to_dict(office.settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update oltp.refunds set failed_at = failed_at + interval '1 day'")
    found = verdicts(
        office, "oltp_lake.refund", "operational_finance.refunds", "operational_finance.daily_sales",
        "operational_finance.tax", "journal_identities",
    )  # fmt: skip
    assert found["oltp_lake.refund"] == {("refunds", refund.refund_id)}
    assert found["operational_finance.refunds"] == {("marts.refunds", refund.refund_id)}
    assert found["operational_finance.daily_sales"] == {
        ("marts.daily_sales", "tea", "2011-01-17", "GBP"),
        ("marts.daily_sales", "tea", "2011-01-18", "GBP"),
    }
    assert {key[2] for key in found["operational_finance.tax"]} == {"returned"}
    assert found["journal_identities"] == set()
