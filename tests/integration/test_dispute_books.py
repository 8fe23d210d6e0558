"""Disputes with known right values, from the command over every copy to the trial balance and back."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from contracts.events.merchant import TaxRate
from oltp.commands.end_dispute import EndDispute
from oltp.commands.open_dispute import OpenDispute
from tests.conftest import Cluster
from tests.integration.finance_office import Office
from tests.integration.test_taxed_orders import accounts_of, do, offer, open_for, place, verdicts

pytestmark = pytest.mark.timeout(1200)


def dispute(office: Office, payment: Any, name: str, amount_minor: int, fee_minor: int, *, is_won: bool | None) -> None:
    """Open a dispute, and end it unless `is_won` is None."""
    named = {"merchant_id": "presents", "payment_id": payment.payment_id, "provider_reference": name}
    do(office, OpenDispute(**named, amount_minor=amount_minor, fee_minor=fee_minor, reason="not known"))
    if is_won is not None:
        do(office, EndDispute(**named, is_won=is_won))


@pytest.mark.in_turn("right values")
def test_right_values_from_the_command_to_the_trial_balance(office: Office, postgres: Cluster) -> None:
    open_for(office, "presents", "GBP", "GB", [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)])
    offer(office, "presents", "TEA", 10_000_000, "standard")
    _, payment = place(office, "presents", "TEA", "TEA")
    # 24.00 captured: 5.00 lost, 3.00 won, 2.00 still held; fees of 1.50 twice.
    dispute(office, payment, "dp_1", 500, 150, is_won=False)
    dispute(office, payment, "dp_2", 300, 150, is_won=True)
    dispute(office, payment, "dp_3", 200, 0, is_won=None)
    assert office.reconcile()
    assert accounts_of(office, "presents") == {
        "cash": 24_000_000,
        "clearing": 0,
        "sales": -20_000_000,
        "tax_payable": -4_000_000,
        "merchant_share": 16_000_000,
        "merchant_payable": -24_000_000,
        "dispute_cash": -10_000_000,
        "dispute_holds": 2_000_000,
        "chargebacks": 5_000_000,
        "dispute_fees": 3_000_000,
        "merchant_disputes": 8_000_000,
    }
    (owed,) = [row for row in office.report("merchant-payable")["rows"] if row["merchant_id"] == "presents"]
    assert (owed["captured_minor"], owed["disputed_minor"], owed["payable_minor"]) == (2_400, 800, 1_600)
    days = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "presents"]
    assert [(day["captured_minor"], day["net_minor"]) for day in days] == [(2_400, 2_400)]

    # What somebody changes past everything is known to operations alone, and the comparisons say so.
    database = psycopg.conninfo.conninfo_to_dict(office.settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update oltp.payments set charged_back_minor = 501 where charged_back_minor = 500")
    found = verdicts(office, "oltp_identities", "oltp_lake.payment", "operational_finance.payments")
    assert found == {
        "oltp_identities": {("payment.charged_back_minor", payment.payment_id)},
        "oltp_lake.payment": {("payments", payment.payment_id)},
        "operational_finance.payments": {("marts.payments", payment.payment_id)},
    }
