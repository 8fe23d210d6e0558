"""Events of an adjustment: money that belongs to a merchant's books but to no order.

Kinds are bad debt, returns of unknown orders, fees and manual corrections. Amounts are signed, so an import can book
every row and drops none.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

import msgspec

from contracts.events.common import AggregateState, Value
from contracts.limits import (
    Currency,
    CustomerId,
    Jurisdiction,
    Note,
    RatePpm,
    Reference,
    SignedQuantity,
    Sku,
    Source,
    Uuid,
)


class AdjustmentEvent(StrEnum):
    """An adjustment is booked once and never changes; another adjustment corrects a wrong one."""

    ADJUSTMENT_BOOKED = "adjustment_booked"


class AdjustmentKind(StrEnum):
    """Why the money moved."""

    BAD_DEBT = "bad_debt"
    UNREFERENCED_RETURN = "unreferenced_return"
    FEE = "fee"
    DISCOUNT = "discount"
    MANUAL = "manual"


class AdjustmentTax(Value, frozen=True, kw_only=True):
    """One of several taxes in an adjustment. Table adjustment_taxes."""

    KEY: ClassVar[tuple[str, ...]] = ("jurisdiction",)

    jurisdiction: Jurisdiction
    """Where this tax is owed."""
    rate_ppm: RatePpm
    """In parts per million."""
    tax_minor: int
    """This tax; it has the same sign as the adjustment."""


class AdjustmentState(AggregateState, frozen=True, kw_only=True):
    """One adjustment; always version 1. Negative: the merchant gets less."""

    AGGREGATE_TYPE: ClassVar[str] = "adjustment"
    MOMENT_FIELDS: ClassVar[tuple[str, ...]] = ("adjusted_at",)

    adjustment_id: Uuid
    """The adjustment."""
    kind: AdjustmentKind
    """Why the money moved."""
    currency: Currency
    """Currency of every amount, an ISO 4217 code."""
    amount_minor: int
    """Signed; negative: the merchant gets less."""
    rounding_micro: int
    """Exact amount = amount_minor in micro + rounding_micro."""
    quantity: SignedQuantity
    """Number of units that it concerns, signed."""
    sku: Sku | None
    """The article that it concerns; None: it concerns no article."""
    customer_id: CustomerId | None
    """The customer, by the merchant's own id; None: there is none."""
    external_reference: Reference | None
    """A reference outside Tieout; None: there is none."""
    reason: Note
    """The reason, as the person or program that booked it wrote it."""
    source: Source
    """What created it; the same values as the source of an order."""
    adjusted_at: datetime
    """When it happened."""
    tax_minor: int = 0
    """Tax contained in the amount, with its sign."""
    jurisdiction: str | None = None
    """Where the tax is owed; None where the adjustment has no tax."""
    tax_category: str | None = None
    """The tax category that selected the rate; None where the adjustment has no tax."""
    rate_ppm: int | None = None
    """The tax rate, in parts per million; None where the adjustment has no tax."""
    taxes: list[AdjustmentTax] = msgspec.field(default_factory=list)
    """The taxes, if there are several, ordered by jurisdiction; they sum to the adjustment's tax_minor and rate_ppm."""
