"""Create or change a product, with any of its variants and their prices."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeVar

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events.common import Value
from contracts.events.product import Attribute, ProductEvent, ProductKind, ProductState, Variant
from contracts.limits import (
    ATTRIBUTES,
    VARIANTS,
    Brand,
    Description,
    Sku,
    TaxCategory,
    Title,
    UnitPriceMicro,
    Uuid,
)
from contracts.text import visible
from oltp.commands.execute import Command
from oltp.store.merchants import merchant_currency
from oltp.store.rows import find, save
from oltp.transaction import CommandTransaction

Kept = TypeVar("Kept")

BRAND_NAME = "brand"
"""The name by which a search filters by the brand, and counts brands."""


class VariantInput(Value, frozen=True, kw_only=True):
    """The new state of a variant; without a price the present price stays."""

    variant_id: Uuid
    sku: Sku
    title: Title
    is_active: bool = True
    unit_price_micro: UnitPriceMicro | None = None


class UpsertProduct(Command[ProductState], frozen=True, kw_only=True):
    """Create or update a product; variants that are not named stay unchanged.

    Brand, description and attributes that are left out stay as they are; `attributes` replaces all of them.
    """

    IS_BATCHABLE: ClassVar[bool] = True
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"brand", "body", "attributes"})

    product_id: Uuid
    title: Title
    kind: ProductKind = ProductKind.GOODS
    tax_category: TaxCategory = "standard"
    is_active: bool = True
    variants: Annotated[list[VariantInput], VARIANTS] = msgspec.field(default_factory=list)
    brand: Brand | None = None
    body: Description | None = None
    """The description, plain text."""
    attributes: Annotated[list[Attribute], ATTRIBUTES] | None = None

    def run(self, tx: CommandTransaction) -> ProductState:
        """Return the product; ConflictError when its kind would change, or an SKU belongs to another variant."""
        before = find(tx, ProductState, self.merchant_id, self.product_id)
        if before is not None and before.kind != self.kind:
            raise ConflictError(f"Product {self.product_id} is {before.kind}; a kind cannot change, units are counted.")
        after = ProductState(
            merchant_id=self.merchant_id,
            version=before.version + 1 if before else 1,
            product_id=self.product_id,
            title=self.title,
            kind=self.kind,
            tax_category=self.tax_category,
            is_active=self.is_active,
            variants=with_variants(before.variants if before else [], self.variants),
            brand=_given(self.brand, before.brand if before else ""),
            body=_given(self.body, before.body if before else ""),
            attributes=_given(ordered_attributes(self.attributes), before.attributes if before else []),
        )
        return save_product(tx, before, after, ProductEvent.PRODUCT_UPSERTED)


def ordered_attributes(given: list[Attribute] | None) -> list[Attribute] | None:
    """Return attributes in the order of the state; InputError when a name is given twice or cannot be searched by."""
    if given is None:
        return None
    names = set[str]()
    for name in (attribute.name for attribute in given):
        if name == BRAND_NAME:
            raise InputError(
                f"An attribute cannot be called {BRAND_NAME!r}: the product's brand is a field of its own."
            )
        if not name.isprintable() or "\\" in name or "," in name or name != name.strip():
            raise InputError(
                f"{visible(name)!r} is no name of an attribute: it has no comma, no backslash, no space around it and "
                "no space but the plain one."
            )
        if name in names:
            raise InputError(f"The attribute {visible(name)!r} is given twice; a product has one value of each.")
        names.add(name)
    return sorted(given, key=lambda attribute: attribute.name)


def _given(value: Kept | None, before: Kept) -> Kept:
    return before if value is None else value


def with_variants(variants: list[Variant], given: list[VariantInput]) -> list[Variant]:
    """Return the variants with the given ones added or changed, in the state's order."""
    merged = {variant.variant_id: variant for variant in variants}
    for item in given:
        if not item.sku or (item.unit_price_micro is not None and item.unit_price_micro < 0):
            raise InputError(f"Variant {item.variant_id}: it needs an SKU, and its price cannot be negative.")
        old = merged.get(item.variant_id)
        price = item.unit_price_micro if item.unit_price_micro is not None or old is None else old.unit_price_micro
        merged[item.variant_id] = Variant(
            variant_id=item.variant_id,
            sku=item.sku,
            title=item.title,
            is_active=item.is_active,
            unit_price_micro=price,
        )
    return sorted(merged.values(), key=lambda variant: (variant.sku, variant.variant_id))


def save_product(
    tx: CommandTransaction, before: ProductState | None, after: ProductState, event_type: ProductEvent
) -> ProductState:
    """Write the product; prices are in the merchant's currency."""
    return save(tx, before, after, event_type, {"currency": merchant_currency(tx, after.merchant_id)})
