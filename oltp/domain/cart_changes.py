"""What a shopper has confirmed of a cart against what holds now: prices, availability, what is sold at all.

Belongs here: the comparison. Does not belong here: reading prices and stock (`oltp/store/sales.py`), the order
(`oltp/commands/check_out_cart.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from contracts.events.common import Value


class ChangeKind(StrEnum):
    """What differs."""

    QUANTITY = "quantity"
    """The cart holds another number of units; 0 or missing: the SKU was added or taken out."""
    PRICE = "price"
    """A unit costs another price, in micro-units."""
    UNPRICED = "unpriced"
    """It has no price at present."""
    NOT_SOLD = "not_sold"
    """The merchant does not sell it, or not any more."""
    SHORT = "short"
    """Fewer units are available than the cart holds."""
    TOTAL = "total"
    """The order costs another amount, e.g. because of taxes or shipping; in minor units."""


STOPS = frozenset({ChangeKind.UNPRICED, ChangeKind.NOT_SOLD, ChangeKind.SHORT})
"""Confirming another total does not help: the cart itself must be changed."""


class CartChange(Value, frozen=True, kw_only=True):
    """One difference. `sku` None: of the whole order. `confirmed` and `now` None: there is none."""

    kind: ChangeKind
    sku: str | None
    confirmed: int | None
    now: int | None

    def as_values(self) -> dict[str, object]:
        """Return it as plain values, for an error."""
        return {**msgspec.structs.asdict(self), "kind": self.kind.value}


class Offer(Value, frozen=True, kw_only=True):
    """How a SKU of the merchant can be had now."""

    title: str
    is_active: bool
    unit_price_micro: int | None
    available: int | None
    """Units that nobody has ordered or reserved; None for what is not kept in stock."""


class Confirmed(Value, frozen=True, kw_only=True):
    """What the shopper saw of a SKU."""

    quantity: int
    unit_price_micro: int


def stopping(sku: str, quantity: int, offer: Offer | None) -> CartChange | None:
    """Return why this line cannot be ordered now; None when it can."""
    if offer is None or not offer.is_active:
        return CartChange(kind=ChangeKind.NOT_SOLD, sku=sku, confirmed=quantity, now=None)
    if offer.unit_price_micro is None:
        return CartChange(kind=ChangeKind.UNPRICED, sku=sku, confirmed=None, now=None)
    if offer.available is not None and offer.available < quantity:
        return CartChange(kind=ChangeKind.SHORT, sku=sku, confirmed=quantity, now=max(0, offer.available))
    return None


def changes_of(
    quantities: Mapping[str, int], confirmed: Mapping[str, Confirmed], offers: Mapping[str, Offer]
) -> Iterator[CartChange]:
    """Yield what differs from what was confirmed, by SKU."""
    for sku in sorted(quantities.keys() | confirmed.keys()):
        quantity, seen, offer = quantities.get(sku, 0), confirmed.get(sku), offers.get(sku)
        if seen is None or seen.quantity != quantity:
            yield CartChange(
                kind=ChangeKind.QUANTITY, sku=sku, confirmed=None if seen is None else seen.quantity, now=quantity
            )
        if not quantity:
            continue
        if stop := stopping(sku, quantity, offer):
            yield stop
        elif seen is not None and offer is not None and offer.unit_price_micro != seen.unit_price_micro:
            yield CartChange(
                kind=ChangeKind.PRICE, sku=sku, confirmed=seen.unit_price_micro, now=offer.unit_price_micro
            )
