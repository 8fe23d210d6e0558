"""Events of a product with its variants and their prices."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from contracts.events.common import AggregateState, Value
from contracts.limits import (
    AttributeName,
    AttributeValue,
    Brand,
    Description,
    Sku,
    TaxCategory,
    Title,
    UnitPriceMicro,
    Uuid,
)


class ProductEvent(StrEnum):
    """What can happen to a product."""

    PRODUCT_UPSERTED = "product_upserted"
    VARIANT_UPSERTED = "variant_upserted"
    PRICE_SET = "price_set"
    PRODUCT_RESTATED = "product_restated"
    """The state is published again, because a write had bypassed the outbox."""


class ProductKind(StrEnum):
    """Goods are stocked and shipped; services (manual charges, vouchers) are not."""

    GOODS = "goods"
    SERVICE = "service"


class Variant(Value, frozen=True, kw_only=True):
    """A sellable form of a product. Table variants; the price is in table prices."""

    KEY: ClassVar[tuple[str, ...]] = ("variant_id",)

    variant_id: Uuid
    """The variant."""
    sku: Sku
    """Unique within the merchant, case-sensitive."""
    title: Title
    """What it is called."""
    is_active: bool
    """Whether it is offered; it is offered only while its product is."""
    unit_price_micro: UnitPriceMicro | None
    """Price of one unit in the merchant's currency; None: not for sale at a catalog price."""


class Attribute(Value, frozen=True, kw_only=True):
    """What a product is like, e.g. color: red; shoppers find, filter and count products by it."""

    KEY: ClassVar[tuple[str, ...]] = ("name",)

    name: AttributeName
    """Unique within the product, case-sensitive."""
    value: AttributeValue
    """What the product has."""


class ProductState(AggregateState, frozen=True, kw_only=True):
    """A product of a merchant."""

    AGGREGATE_TYPE: ClassVar[str] = "product"

    product_id: Uuid
    """The product."""
    title: Title
    """What it is called."""
    kind: ProductKind
    """Whether it is stocked and shipped."""
    tax_category: TaxCategory
    """The tax category that selects the tax rate of its sales."""
    is_active: bool
    """Whether it is offered."""
    variants: list[Variant]
    """Ordered by (sku, variant_id)."""
    brand: Brand = ""
    """Who makes it; empty: nobody is named."""
    body: Description = ""
    """The description, plain text."""
    attributes: list[Attribute] = msgspec.field(default_factory=list)
    """Ordered by name. Table product_attributes."""
