"""Gift cards with known right values, from the command over every copy to the trial balance and back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from contracts.events.gift_card import GiftCardFunding
from contracts.events.merchant import TaxRate
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.expire import ExpireGiftCards
from oltp.commands.issue_gift_card import IssueGiftCard
from oltp.commands.redeem_gift_card import RedeemGiftCard
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from tests.conftest import Cluster
from tests.integration.finance_office import DECEMBER, Office
from tests.integration.test_taxed_orders import accounts_of, do, give_back, offer, open_for, place, verdicts

pytestmark = pytest.mark.timeout(1200)

WEEK = timedelta(days=7)


def issue(office: Office, amount_minor: int, funding: GiftCardFunding, **options: Any) -> Any:
    return do(
        office,
        IssueGiftCard(
            merchant_id="presents",
            amount_minor=amount_minor,
            funding=funding,
            external_reference="till 1" if funding is GiftCardFunding.SOLD else None,
            source="test",
            **options,
        ),
    )


def sell(office: Office) -> Any:
    """Sell a card of 50.00 and give one of 20.00 away; spend, give back, and let the second one end."""
    open_for(office, "presents", "GBP", "GB", [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)])
    offer(office, "presents", "TEA", 10_000_000, "standard")
    sold = issue(office, 5_000, GiftCardFunding.SOLD)
    issue(office, 2_000, GiftCardFunding.GRANTED, expires_at=DECEMBER + WEEK)

    # 24.00, all of it from the card; 12.00 come back onto it.
    order, _ = place(office, "presents", "TEA", "TEA", is_paid=False)
    payment = do(
        office,
        RedeemGiftCard(merchant_id="presents", order_id=order.order_id, gift_card_id=sold.gift_card_id),
    )
    assert give_back(office, "presents", order, payment, None, 1).amount_minor == 1_200

    # 12.00 through the provider; 6.00 of it onto the card, and 1.00 back the way it came.
    order, payment = place(office, "presents", "TEA", number="2")
    line = RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=0, amount_minor=600)
    refund = do(
        office,
        RequestRefund(
            merchant_id="presents",
            payment_id=payment.payment_id,
            lines=[line],
            reason="wants a card",
            gift_card_id=sold.gift_card_id,
        ),
    )
    do(office, CompleteRefund(merchant_id="presents", refund_id=refund.refund_id))
    give_back(office, "presents", order, payment, 100, 0)

    office.at(DECEMBER + WEEK)
    ((ended),) = do(office, ExpireGiftCards(merchant_id="presents"))
    assert ended.expired_minor == 2_000
    return sold


@pytest.mark.in_turn("right values", seconds=43)
def test_right_values_from_the_command_to_the_trial_balance(office: Office, postgres: Cluster) -> None:
    sold = sell(office)
    assert office.reconcile()
    # Left on cards: 50.00 - 24.00 + 12.00 + 6.00.
    assert accounts_of(office, "presents") == {
        "cash": 50_000_000 + 12_000_000 - 1_000_000,
        "gift_card_liability": -44_000_000,
        "gift_card_grants": 20_000_000,
        "gift_card_breakage": -20_000_000,
        "clearing": 0,
        "sales": -30_000_000,
        "tax_payable": -6_000_000 + 2_000_000 + 1_000_000 + 170_000,
        "refunds": 10_000_000 + 5_000_000 + 830_000,
        "merchant_share": 36_000_000 - 19_000_000,
        "merchant_payable": -36_000_000 + 19_000_000,
    }
    days = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "presents"]
    # The day on which nothing but a card ended is none of sales.
    assert [(day["captured_minor"], day["refunded_minor"], day["net_minor"]) for day in days] == [(3_600, 1_900, 1_700)]

    # Of a card that somebody changes past everything, operations alone know, and every comparison says so.
    database = psycopg.conninfo.conninfo_to_dict(office.settings.pods[0].owner_dsn)["dbname"]
    with psycopg.connect(postgres.superuser_dsn(str(database))) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update oltp.gift_cards set redeemed_minor = redeemed_minor + 1, balance_minor = balance_minor - 1 "
            "where gift_card_id = %s",
            [sold.gift_card_id],
        )
    found = verdicts(
        office,
        "oltp_identities",
        "oltp_lake.gift_card",
        "operational_finance.gift_cards",
        "operational_finance.gift_card_liability",
        "journal_identities",
    )
    assert found == {
        "oltp_identities": {("gift_card.redeemed_minor", sold.gift_card_id)},
        "oltp_lake.gift_card": {("gift_cards", sold.gift_card_id)},
        "operational_finance.gift_cards": {("marts.gift_cards", sold.gift_card_id)},
        "operational_finance.gift_card_liability": {("marts.gift_card_liability", "presents", "GBP")},
        # What a card was issued with, and what ended, is what it was.
        "journal_identities": set(),
    }
