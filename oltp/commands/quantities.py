"""Units of order lines, as fields of commands."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from contracts.errors import InputError
from contracts.limits import Quantity, Uuid


class QuantityInput(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one order line, at least 1."""

    order_line_id: Uuid
    quantity: Quantity


def by_line(inputs: Sequence[QuantityInput] | None) -> dict[str, int] | None:
    """Return units by order line id; a line named twice is added up. None stays None. InputError below 1 unit."""
    if inputs is None:
        return None
    units: dict[str, int] = {}
    for line in inputs:
        if line.quantity < 1:
            raise InputError(f"Line {line.order_line_id}: the quantity is {line.quantity}; it must be at least 1.")
        units[line.order_line_id] = units.get(line.order_line_id, 0) + line.quantity
    return units
