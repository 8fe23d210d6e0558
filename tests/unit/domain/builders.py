"""Values for tests of the domain: a merchant, unpriced lines, a placed order, a captured payment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from contracts.events.merchant import MerchantState, TaxRate
from contracts.events.order import LineKind, OrderDiscount, OrderState
from contracts.events.payment import PaymentCapture, PaymentState
from oltp.domain.orders import owed_minor, place_order
from oltp.domain.payments import authorize_payment, capture_payment
from oltp.domain.pricing import UnpricedLine, shipping_line

NOW = datetime(2011, 4, 1, 12, tzinfo=UTC)


def merchant(
    *, is_tax_inclusive: bool = False, rate_ppm: int = 200_000, fee_minor: int = 0, free_from_minor: int | None = None
) -> MerchantState:
    """A merchant in GB with categories standard, zero and shipping."""
    rates = [("shipping", rate_ppm), ("standard", rate_ppm), ("zero", 0)]
    return MerchantState(
        merchant_id="m1",
        version=1,
        name="M",
        currency="GBP",
        is_active=True,
        is_tax_inclusive=is_tax_inclusive,
        jurisdiction="GB",
        shipping_fee_minor=fee_minor,
        free_shipping_from_minor=free_from_minor,
        tax_rates=[TaxRate(jurisdiction="GB", tax_category=name, rate_ppm=rate) for name, rate in rates],
        registered_at=NOW,
    )


def unpriced(
    number: int,
    quantity: int,
    unit_price_micro: int,
    *,
    kind: LineKind = LineKind.GOODS,
    tax_category: str = "standard",
) -> UnpricedLine:
    """A line whose ids follow from its number."""
    return UnpricedLine(
        order_line_id=f"line-{number}",
        kind=kind,
        variant_id=f"variant-{number}",
        sku=f"SKU{number}",
        title=f"Thing {number}",
        quantity=quantity,
        unit_price_micro=unit_price_micro,
        price_source="catalog",
        price_reason=None,
        tax_category=tax_category,
    )


def placed(
    seller: MerchantState,
    lines: Sequence[UnpricedLine],
    discount_minor: int = 0,
    shipping_micro: int | None = None,
    further_discounts: Sequence[OrderDiscount] = (),
) -> OrderState:
    """A placed order of these lines, with one discount and one shipping line if asked for."""
    shipping = [] if shipping_micro is None else [shipping_line("line-shipping", shipping_micro, "merchant", None)]
    discounts = [OrderDiscount(order_discount_id="d1", code="CODE", amount_minor=discount_minor)]
    return place_order(
        seller,
        [*lines, *shipping],
        [*(discounts if discount_minor else []), *further_discounts],
        order_id="o1",
        order_number="1",
        customer_id=None,
        source="storefront",
        reservation_id=None,
        placed_at=NOW,
    )


def captured(order: OrderState, amount_minor: int | None = None) -> PaymentState:
    """A payment authorized for what is owed, of which `amount_minor` (default: all) is captured."""
    payment = authorize_payment(
        order,
        payment_id="p1",
        amount_minor=owed_minor(order),
        provider="embedded",
        provider_reference="auth",
        authorized_at=NOW,
    )
    amount = owed_minor(order) if amount_minor is None else amount_minor
    if amount == 0:
        return payment
    return capture_payment(
        payment,
        PaymentCapture(payment_capture_id="c1", amount_minor=amount, provider_reference="capt", captured_at=NOW),
    )
