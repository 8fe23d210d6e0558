"""Money that comes later and goes back, with known right values: each day keeps what happened on it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
import pytest

from contracts.events.merchant import TaxRate
from contracts.events.payment import PaymentMethod
from derived.read_models.account_view import account_of
from oltp.commands.await_payment import AwaitPayment
from oltp.commands.give_back_unallocated import GiveBackUnallocated
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.receive_payment import ReceivePayment
from oltp.commands.return_payment import ReturnPayment
from tests.conftest import Cluster
from tests.integration.finance_office import JANUARY, Office
from tests.integration.test_reversed_refund_books import days_of
from tests.integration.test_taxed_orders import accounts_of, do, offer, open_for, verdicts

pytestmark = pytest.mark.timeout(1200)


def awaiting(office: Office, number: str, method: PaymentMethod) -> Any:
    order = do(
        office,
        PlaceOrder(
            merchant_id="tea",
            order_number=number,
            customer_id="ada",
            location_id="main",
            lines=[OrderLineInput(sku="TEA", quantity=1)],
        ),
    )
    return do(office, AwaitPayment(merchant_id="tea", order_id=order.order_id, method=method))


def receive(office: Office, payment: Any, reference: str, amount_minor: int) -> None:
    named = {"payment_id": payment.payment_id, "provider_reference": reference}
    do(office, ReceivePayment(merchant_id="tea", **named, amount_minor=amount_minor))


def seen(office: Office) -> Counter[tuple[Any, ...]]:
    """What the customer's page says of each payment."""
    payments = account_of(office.settings.read_models_dsn, "tea", "ada").payments
    return Counter((one.status, one.method, one.pending_minor, one.returned_minor) for one in payments)


@pytest.mark.in_turn("right values", seconds=60)
def test_right_values_on_every_day_and_in_both_months(office: Office, postgres: Cluster, tmp_path: Path) -> None:
    open_for(office, "tea", "GBP", "GB", [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)])
    offer(office, "tea", "TEA", 10_000_000, "standard")
    # 12.00 each: 13.00 come for the first, all for the second, nothing for the third.
    above = awaiting(office, "1", PaymentMethod.BANK_TRANSFER)
    receive(office, above, "rcpt_1", 1_300)
    debit = awaiting(office, "2", PaymentMethod.DIRECT_DEBIT)
    receive(office, debit, "rcpt_2", 1_200)
    awaiting(office, "3", PaymentMethod.BANK_TRANSFER)
    assert office.reconcile()
    december = {"2010-12-09": (2_400, 0, 2_400, 600)}
    assert days_of(office) == december
    sold = {"sales": -30_000_000, "tax_payable": -6_000_000}
    assert accounts_of(office, "tea") == sold | {
        "cash": 24_000_000,
        "clearing": 12_000_000,
        "merchant_share": 24_000_000,
        "merchant_payable": -24_000_000,
        "unallocated_cash": 1_000_000,
        "customer_deposits": -1_000_000,
    }
    assert seen(office) == {
        ("captured", "bank_transfer", 0, 0): 1,
        ("captured", "direct_debit", 0, 0): 1,
        ("pending", "bank_transfer", 1_200, 0): 1,
    }
    assert office.run("close", "2010-12", "--yes")["closed"] is True
    closed = office.files(tmp_path / "closed", "2010-12")

    office.at(JANUARY)
    back: dict[str, Any] = {"merchant_id": "tea", "reason": "objected"}
    named: dict[str, Any] = {"payment_id": debit.payment_id, "provider_reference": "rcpt_2"}
    do(office, ReturnPayment(**back, **named, fee_minor=350))
    named = {"payment_id": above.payment_id, "provider_reference": "rcpt_1"}
    do(office, GiveBackUnallocated(**back, **named))
    assert office.reconcile()
    assert days_of(office) == december | {"2011-01-17": (-1_200, 0, -1_200, 0)}
    assert seen(office) == {
        ("captured", "bank_transfer", 0, 0): 1,
        ("captured", "direct_debit", 0, 1_200): 1,
        ("pending", "bank_transfer", 1_200, 0): 1,
    }
    # 12.00 are there; 24.00 are owed by customers; the provider has kept 3.50, which the merchant bears.
    assert accounts_of(office, "tea") == sold | {
        "cash": 12_000_000,
        "clearing": 24_000_000,
        "merchant_share": 8_500_000,
        "merchant_payable": -12_000_000,
        "dispute_cash": -3_500_000,
        "dispute_fees": 3_500_000,
        "merchant_disputes": 3_500_000,
        "unallocated_cash": 0,
        "customer_deposits": 0,
    }
    (owed,) = [row for row in office.report("merchant-payable")["rows"] if row["merchant_id"] == "tea"]
    assert (owed["captured_minor"], owed["disputed_minor"], owed["payable_minor"]) == (1_200, 350, 850)
    assert office.files(tmp_path / "later", "2010-12") == closed

    # What somebody changes past everything is known to operations alone, and the comparisons say so.
    database = psycopg.conninfo.conninfo_to_dict(office.settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update oltp.payment_movements set moved_at = moved_at + interval '1 day' where kind = 'returned'"
        )
        connection.execute("update oltp.payments set unallocated_minor = 1 where payment_id = %s", [above.payment_id])
    found = verdicts(
        office, "oltp_identities", "oltp_lake.payment", "operational_finance.payments",
        "operational_finance.daily_sales",
    )  # fmt: skip
    assert found["oltp_identities"] == {("payment.unallocated_minor", above.payment_id)}
    assert {key[0] for key in found["oltp_lake.payment"]} == {"payments", "payment_movements"}
    assert found["operational_finance.payments"] == {("marts.payments", above.payment_id)}
    assert found["operational_finance.daily_sales"] == {
        ("marts.daily_sales", "tea", "2011-01-17", "GBP"),
        ("marts.daily_sales", "tea", "2011-01-18", "GBP"),
    }
