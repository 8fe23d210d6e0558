"""Routes by which a merchant changes its catalog and its stock.

Belongs here: products, variants, prices, units. Does not belong here: reading products (`api/routes/products.py`).
"""

from __future__ import annotations

import msgspec

from api.calls import Answer, Call
from api.commands import command_route
from api.declaring import Criticality, Route, Work
from api.roles import ADMINS
from contracts.errors import InsufficientStockError
from oltp.commands.adjust_stock import AdjustStock
from oltp.commands.receive_stock import ReceiveStock
from oltp.commands.set_price import SetPrice
from oltp.commands.spread_stock import SpreadStock
from oltp.commands.upsert_product import UpsertProduct
from oltp.commands.upsert_variant import UpsertVariant
from oltp.reads.products import StockLevel, stock_levels


class StockPage(msgspec.Struct, frozen=True, kw_only=True):
    """The units of a variant at every location."""

    variant_id: str
    levels: list[StockLevel]


def get_stock(call: Call) -> Answer:
    """Return the units of a variant at every location, by location."""
    variant_id = call.uuid("variant_id")
    with call.services.pods.reading(call.merchant_id) as connection:
        levels = stock_levels(connection, call.merchant_id, variant_id)
    return Answer(value=StockPage(variant_id=variant_id, levels=levels))


ROUTES: tuple[Route, ...] = (
    command_route("PUT", "/v1/products/{product_id}", UpsertProduct, "put_product", roles=ADMINS, has_version=True),
    command_route(
        "PUT",
        "/v1/products/{product_id}/variants/{variant_id}",
        UpsertVariant,
        "put_variant",
        roles=ADMINS,
        has_version=True,
    ),
    command_route("PUT", "/v1/variants/{variant_id}/price", SetPrice, roles=ADMINS),
    Route(
        name="get_stock",
        method="GET",
        path="/v1/variants/{variant_id}/stock",
        summary="Units of a variant at every location",
        handler=get_stock,
        roles=ADMINS,
        criticality=Criticality.PAGE,
        work=Work.ADMIN,
        deadline_seconds=3.0,
        answer=StockPage,
        parameters={"variant_id": "The variant's id"},
    ),
    command_route("POST", "/v1/stock/receipts", ReceiveStock, roles=ADMINS, status=201),
    command_route(
        "POST", "/v1/stock/adjustments", AdjustStock, roles=ADMINS, status=201, raises=(InsufficientStockError,)
    ),
    command_route("POST", "/v1/stock/slots", SpreadStock, roles=ADMINS),
)
