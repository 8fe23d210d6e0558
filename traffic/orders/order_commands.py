"""The steps that book an order: commands with their keys, in the order of time.

Belongs here: the type of a step, keys and ids. Does not belong here: which steps an order has (`rehearsal.py`), running
them (`booking.py`).

Keys and ids are computed from merchant and order number only, never from the file. So the same order in another file
gives the same commands, and a changed order is detected: its key comes with another body.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from contracts.events.order import DEPOSIT_TAX_CATEGORY
from oltp.commands.cancel_order import CancelOrder
from oltp.commands.execute import Command
from oltp.commands.fulfill_order import FulfillOrder
from oltp.commands.request_refund import RequestRefund
from traffic.content_ids import CATALOG_TIME, content_id
from traffic.orders.amounts import UNTAXED
from traffic.orders.format import OrderRecord

SOURCE = "import:orders"
"""Source of every order, price override and adjustment of an import."""
LOCATION = "main"
UNALLOCATED_SKU = "UNALLOCATED-CASH"
"""SKU of the line of unallocated cash."""
ROUNDING_SKU = "ROUNDING"
"""SKU of the line with the difference when a stated total is above the computed total."""
EXTRA_CATEGORIES = {UNALLOCATED_SKU: DEPOSIT_TAX_CATEGORY, ROUNDING_SKU: UNTAXED}
"""Tax category of each line that the import adds. Unallocated cash is not a sale."""

PLACE = "place"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One command. Its order lines are named by their numbers until the order is placed and they have ids."""

    name: str
    command: Command[Any]
    at: datetime
    method: str = ""
    """The payment, for steps that ask the provider."""
    is_declined: bool = False


def key_of(number: str, step: str) -> str:
    """Return the idempotency key of a step of an order; keys are scoped by merchant."""
    return f"orders/{number}/{step}"


def order_id(record: OrderRecord) -> str:
    """Return the id of the order."""
    return _id(record, "order")


def payment_id(record: OrderRecord, reference: str) -> str:
    """Return the id of one of its payments."""
    return _id(record, "payment", reference)


def gift_card_id(record: OrderRecord, reference: str) -> str:
    """Return the id of the gift card of one of its payments."""
    return _id(record, "gift_card", reference)


def refund_id(record: OrderRecord, reference: str) -> str:
    """Return the id of one of its refunds."""
    return _id(record, "refund", reference)


def product_id(merchant_id: str, sku: str) -> str:
    """Return the id of the product that an SKU names."""
    return str(content_id(CATALOG_TIME, SOURCE, merchant_id, "product", sku))


def variant_id(merchant_id: str, sku: str) -> str:
    """Return the id of its one variant."""
    return str(content_id(CATALOG_TIME, SOURCE, merchant_id, "variant", sku))


def bound(step: Step, line_ids: Mapping[str, str]) -> Command[Any]:
    """Return the step's command with the ids of the order's lines, by their numbers."""
    command = step.command
    if not isinstance(command, CancelOrder | FulfillOrder | RequestRefund) or command.lines is None:
        return command
    lines: list[Any] = [
        msgspec.structs.replace(line, order_line_id=line_ids[line.order_line_id]) for line in command.lines
    ]
    return msgspec.structs.replace(command, lines=lines)


def _id(record: OrderRecord, *parts: str) -> str:
    return str(content_id(record.placed_at, SOURCE, record.merchant_id, record.order_number, *parts))
