"""Place an order: prices, tax basis and stock are read again from OLTP; the caller's values are not used.

The steps: read merchant, variants and (if given) the reservation in one round trip; price the order (pure); then write
reservation, order and events. The stock counter is updated last, because other buyers wait for its row lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec

from contracts.errors import ConflictError, InputError, NotFoundError
from contracts.events.merchant import MerchantState
from contracts.events.order import LineKind, OrderDiscount, OrderEvent, OrderState
from contracts.events.product import ProductKind
from contracts.events.stock import ReservationEvent, ReservationLine, ReservationState, ReservationStatus
from contracts.limits import (
    DISCOUNTS,
    LINES,
    SHIPPING,
    AmountMinor,
    CustomerId,
    DiscountCode,
    LineNumber,
    Note,
    OrderNumber,
    PaymentToken,
    Quantity,
    Source,
    StoredName,
    TaxCategory,
    UnitPriceMicro,
    Uuid,
)
from oltp.commands.execute import Command
from oltp.domain.orders import place_order
from oltp.domain.pricing import UnpricedLine, shipping_fee_lines, shipping_line
from oltp.domain.reservations import take_over
from oltp.outbox import Change
from oltp.store import stock
from oltp.store.rows import ask, load, save_all
from oltp.store.sales import Sellable, asking_merchant_and_sellables, merchant_and_sellables, sellables
from oltp.transaction import CommandTransaction


class PriceOverride(msgspec.Struct, frozen=True, kw_only=True):
    """An authorized price that replaces the catalog price; micro-units per unit, >= 0."""

    unit_price_micro: UnitPriceMicro
    source: Source
    """Who authorized the price, e.g. ``import:online_retail``; the event carries it."""
    reason: Note
    tax_category: TaxCategory | msgspec.UnsetType = msgspec.UNSET
    """The merchant's tax category of the sale; unset: the category of the product, or of shipping."""
    is_tax_inclusive: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether this price contains the tax; unset: the merchant's setting applies."""


class OrderLineInput(msgspec.Struct, frozen=True, kw_only=True):
    """A requested line. Two lines with the same SKU stay two lines."""

    sku: StoredName
    quantity: Quantity
    price_override: PriceOverride | None = None


class DiscountInput(msgspec.Struct, frozen=True, kw_only=True):
    """A discount in minor units, above 0: on the line with this number (from 1, input order), or on the whole order."""

    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"line_number"})

    code: DiscountCode
    amount_minor: AmountMinor
    line_number: LineNumber | None = None


class PaidBy(StrEnum):
    """How a checkout is paid."""

    CARD = "card"
    BANK_TRANSFER = "bank_transfer"
    DIRECT_DEBIT = "direct_debit"
    GIFT_CARD = "gift_card"


class PlaceOrder(Command[OrderState], frozen=True, kw_only=True):
    """Place an order and hold its goods at one location.

    `shipping`: None charges the merchant's own fee; a list gives exactly these shipping lines (an empty list: none).
    `reservation_id`: take over this reservation, which must hold exactly the order's goods.
    `payment_method`, `payment_token`, `gift_card_id`: how the same checkout pays it. They are only compared: the
    order is the same, and a repeated key must name the same ones.
    """

    IS_BATCHABLE: ClassVar[bool] = True
    COMPARED_LATER: ClassVar[frozenset[str]] = frozenset({"payment_token", "gift_card_id"})
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"payment_method", *COMPARED_LATER})

    order_number: OrderNumber
    customer_id: CustomerId | None
    location_id: StoredName
    lines: Annotated[list[OrderLineInput], LINES]
    discounts: Annotated[list[DiscountInput], DISCOUNTS] = msgspec.field(default_factory=list)
    shipping: Annotated[list[PriceOverride], SHIPPING] | None = None
    reservation_id: Uuid | None = None
    source: Source = "storefront"
    order_id: Uuid | None = None
    payment_method: PaidBy | None = None
    payment_token: PaymentToken | None = None
    gift_card_id: Uuid | None = None

    def foresee(self) -> tuple[bytes, Sequence[Any]]:
        """Return how to ask for the merchant and for what the lines sell."""
        return asking_merchant_and_sellables(self.merchant_id, [line.sku for line in self.lines])

    def run(self, tx: CommandTransaction) -> OrderState:
        """Return the placed order. Raises InputError, ConflictError or a subclass of these."""
        return place(tx, self, drafted(tx, self))


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An order with the present prices, and the reservation of its goods; nothing of it is written yet."""

    order: OrderState
    held: Change | None
    needed: dict[str, int]
    """Units to hold by variant id."""


def drafted(tx: CommandTransaction, command: PlaceOrder) -> Draft:
    """Read what the order needs and price it."""
    merchant, found = _read(tx, command)
    lines = _unpriced(tx, command, merchant, found)
    order_id = command.order_id or tx.new_id()
    held = _reservation(tx, command, order_id, lines)
    order = place_order(
        merchant,
        lines,
        [
            OrderDiscount(order_discount_id=tx.new_id(), **msgspec.structs.asdict(discount))
            for discount in command.discounts
        ],
        order_id=order_id,
        order_number=command.order_number,
        customer_id=command.customer_id,
        source=command.source,
        reservation_id=held.after.aggregate_id if held else None,
        placed_at=tx.occurred_at,
    )
    return Draft(order=order, held=held, needed=_needed(lines))


def _read(tx: CommandTransaction, command: PlaceOrder) -> tuple[MerchantState, dict[str, Sellable]]:
    """Return the merchant and what the lines sell, as they were foreseen, or by two queries in one round trip."""
    if tx.foreseen:
        return merchant_and_sellables(tx.foreseen, command.merchant_id)
    ask_merchant = tx.once(
        ("merchant", command.merchant_id),
        lambda: ask(tx, MerchantState, command.merchant_id, command.merchant_id, lock=False),
    )
    ask_sellables = sellables(tx, command.merchant_id, [line.sku for line in command.lines])
    return ask_merchant(), ask_sellables()


def place(tx: CommandTransaction, command: PlaceOrder, draft: Draft) -> OrderState:
    """Write a drafted order with its reservation and events; return it."""
    # Write the reservation first, because the order refers to it.
    placed = Change(before=None, after=draft.order, event_type=OrderEvent.ORDER_PLACED)
    save_all(tx, [placed] if draft.held is None else [draft.held, placed])
    if draft.held is not None and draft.held.before is None:
        stock.reserve(tx, command.merchant_id, command.location_id, draft.needed)
    return draft.order


def _unpriced(
    tx: CommandTransaction, command: PlaceOrder, merchant: MerchantState, found: dict[str, Sellable]
) -> list[UnpricedLine]:
    """Return the lines with their present prices, shipping last."""
    lines = [_unpriced_line(tx, merchant.merchant_id, line, found.get(line.sku)) for line in command.lines]
    if command.shipping is None:
        discount_minor = sum(discount.amount_minor for discount in command.discounts)
        return [*lines, *shipping_fee_lines(merchant, lines, discount_minor, tx.new_id())]
    return [*lines, *(_shipping(tx.new_id(), price) for price in command.shipping)]


def _shipping(order_line_id: str, price: PriceOverride) -> UnpricedLine:
    line = shipping_line(order_line_id, price.unit_price_micro, f"override:{price.source}", price.reason)
    return with_tax_of(line, price)


def with_tax_of(line: UnpricedLine, price: PriceOverride | None) -> UnpricedLine:
    """Return the line with the tax category and the tax mode of its authorized price."""
    if price is None:
        return line
    stated = {"tax_category": price.tax_category, "is_tax_inclusive": price.is_tax_inclusive}
    changes: dict[str, Any] = {name: value for name, value in stated.items() if value is not msgspec.UNSET}
    return msgspec.structs.replace(line, **changes) if changes else line


def _unpriced_line(
    tx: CommandTransaction, merchant_id: str, line: OrderLineInput, sellable: Sellable | None
) -> UnpricedLine:
    if sellable is None:
        raise NotFoundError(f"Merchant {merchant_id} sells no SKU {line.sku!r}.")
    if not sellable.is_active:
        raise ConflictError(f"SKU {line.sku} is not for sale.")
    override = line.price_override
    price_micro = sellable.unit_price_micro if override is None else override.unit_price_micro
    if price_micro is None:
        raise InputError(f"SKU {line.sku} has no price; set one, or give an override with its source and reason.")
    priced = UnpricedLine(
        order_line_id=tx.new_id(),
        kind=LineKind.GOODS if sellable.kind is ProductKind.GOODS else LineKind.SERVICE,
        variant_id=sellable.variant_id,
        sku=sellable.sku,
        title=sellable.title,
        quantity=line.quantity,
        unit_price_micro=price_micro,
        price_source="catalog" if override is None else f"override:{override.source}",
        price_reason=None if override is None else override.reason,
        tax_category=sellable.tax_category,
    )
    return with_tax_of(priced, override)


def _needed(lines: list[UnpricedLine]) -> dict[str, int]:
    """Return the units to hold by variant id; lines of the same variant are added up."""
    needed: dict[str, int] = {}
    for line in lines:
        if line.kind is LineKind.GOODS and line.variant_id is not None:
            needed[line.variant_id] = needed.get(line.variant_id, 0) + line.quantity
    return needed


def _reservation(
    tx: CommandTransaction, command: PlaceOrder, order_id: str, lines: list[UnpricedLine]
) -> Change | None:
    """Return the order's reservation, new or taken over; None for an order without goods."""
    needed = _needed(lines)
    if command.reservation_id is not None:
        before = load(tx, ReservationState, command.merchant_id, command.reservation_id)
        after = take_over(before, order_id, command.location_id, needed, tx.occurred_at)
        return Change(before=before, after=after, event_type=ReservationEvent.STOCK_RESERVED)
    if not needed:
        return None
    held = [
        ReservationLine(
            reservation_line_id=tx.new_id(),
            variant_id=variant_id,
            location_id=command.location_id,
            quantity=quantity,
            consumed_quantity=0,
            released_quantity=0,
        )
        for variant_id, quantity in needed.items()
    ]
    after = ReservationState(
        merchant_id=command.merchant_id,
        version=1,
        reservation_id=tx.new_id(),
        order_id=order_id,
        status=ReservationStatus.HELD,
        expires_at=None,
        lines=sorted(held, key=lambda line: line.reservation_line_id),
    )
    return Change(before=None, after=after, event_type=ReservationEvent.STOCK_RESERVED)
