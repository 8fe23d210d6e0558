"""Orders whose lines have two taxes in two jurisdictions, for damages of one of these taxes.

Belongs here: a shop with such orders. Does not belong here: the damages (`drills/damages/`).
"""

from __future__ import annotations

from contracts.events.merchant import TaxRate
from contracts.events.product import ProductKind
from contracts.ids import uuid7
from contracts.settings import PodSettings
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.capture_payment import CapturePayment
from oltp.commands.execute import CommandPod, build_command_pod, execute
from oltp.commands.place_order import OrderLineInput, PlaceOrder
from oltp.commands.register_merchant import RegisterMerchant
from oltp.commands.upsert_product import UpsertProduct, VariantInput

SKU, PRICE_MICRO = "SYRUP", 86_970_000
FEDERAL, PROVINCIAL = "CA-GST", "CA-QST"
RATES_PPM = {FEDERAL: 50_000, PROVINCIAL: 99_750}
ORDERS = 10


def sell_with_several_taxes(pod: PodSettings, control_dsn: str) -> None:
    """Register a shop in Quebec in this pod, and place and capture some orders."""
    merchant_id = f"quebec-{pod.pod}"
    with build_command_pod(pod, control_dsn=control_dsn, connections_max=1) as commands:
        registering, offering = _furnish(merchant_id)
        execute(commands, registering, idempotency_key=str(uuid7()))
        execute(commands, offering, idempotency_key=str(uuid7()))
        for number in range(ORDERS):
            _sell(commands, merchant_id, number)


def _furnish(merchant_id: str) -> tuple[RegisterMerchant, UpsertProduct]:
    rates = [
        TaxRate(jurisdiction="CA-QC", tax_category="standard", rate_ppm=rate, owed_to=place)
        for place, rate in RATES_PPM.items()
    ]
    variant = VariantInput(variant_id=str(uuid7()), sku=SKU, title=SKU, unit_price_micro=PRICE_MICRO)
    return (
        RegisterMerchant(
            merchant_id=merchant_id,
            name=merchant_id,
            currency="CAD",
            is_tax_inclusive=False,
            jurisdiction="CA-QC",
            tax_rates=rates,
        ),
        UpsertProduct(
            merchant_id=merchant_id,
            product_id=str(uuid7()),
            title=SKU,
            kind=ProductKind.SERVICE,
            variants=[variant],
        ),
    )


def _sell(commands: CommandPod, merchant_id: str, number: int) -> None:
    placing = PlaceOrder(
        merchant_id=merchant_id,
        order_number=str(number),
        customer_id=f"customer-{number}",
        location_id="main",
        lines=[OrderLineInput(sku=SKU, quantity=1)],
        source="bench",
    )
    order = execute(commands, placing, idempotency_key=str(uuid7()))
    authorizing = AuthorizePayment(merchant_id=merchant_id, order_id=order.order_id)
    payment = execute(commands, authorizing, idempotency_key=str(uuid7()))
    capturing = CapturePayment(merchant_id=merchant_id, payment_id=payment.payment_id)
    execute(commands, capturing, idempotency_key=str(uuid7()))
