"""An order that ended after a part of it was captured and given back, from the command to the trial balance."""

from __future__ import annotations

import pytest

from contracts.events.merchant import TaxRate
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.complete_refund import CompleteRefund
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.request_refund import RefundLineInput, RequestRefund
from tests.integration.finance_office import Office
from tests.integration.test_taxed_orders import accounts_of, do, offer, open_for

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.in_turn("right values", seconds=10)
def test_nobody_owes_what_was_never_captured_of_an_order_that_ended(office: Office) -> None:
    """24.00 ordered, 5.00 captured and given back: nothing is left on any balance, tax included."""
    open_for(office, "presents", "GBP", "GB", [TaxRate(jurisdiction="GB", tax_category="standard", rate_ppm=200_000)])
    offer(office, "presents", "TEA", 10_000_000, "standard")
    lines = [OrderLineInput(sku="TEA", quantity=2)]
    order = do(
        office,
        PlaceOrder(merchant_id="presents", order_number="1", customer_id=None, location_id="main", lines=lines),
    )
    payment = do(office, AuthorizePayment(merchant_id="presents", order_id=order.order_id))
    do(office, CapturePayment(merchant_id="presents", payment_id=payment.payment_id, amount_minor=500))
    units = [RefundLineInput(order_line_id=order.lines[0].order_line_id, quantity=2, amount_minor=500)]
    refund = do(
        office,
        RequestRefund(merchant_id="presents", payment_id=payment.payment_id, lines=units, reason="changed their mind"),
    )
    do(office, CompleteRefund(merchant_id="presents", refund_id=refund.refund_id))
    assert office.reconcile()
    assert accounts_of(office, "presents") == {
        "cash": 0,
        "clearing": 0,
        "sales": -4_170_000,
        "refunds": 4_170_000,
        "tax_payable": 0,
        "merchant_share": 0,
        "merchant_payable": 0,
    }
    (day,) = [row for row in office.report("daily")["rows"] if row["merchant_id"] == "presents"]
    assert (day["placed_minor"], day["cancelled_minor"]) == (2_400, 1_900)
    assert (day["captured_minor"], day["refunded_minor"], day["net_minor"], day["tax_minor"]) == (500, 500, 0, 0)
