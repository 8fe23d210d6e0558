"""Finding the order of a return, because credit notes of Online Retail do not refer to the credited invoice.

Belongs here: the search, pure, over sold lines with their refundable units. Does not belong here: reading these lines
(`books.py`), or refunding (`credits.py`).

Candidates are the lines that the same customer bought of the same product before or at the time of the return, newest
first. Lines of the same minute are ordered by invoice and line number, not by id, because ids are new in each import
and one file must always give one result. The candidates are tried in this order: (1) a line with the same quantity and
price and without earlier returns; (2) lines with the same price; (3) lines with another price. A return may take parts
of several lines. Carriage is matched only as a whole charge of the same amount. A return without a matching line stays
unmatched; a guest's return is always unmatched, because its customer is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import msgspec

from contracts.events.order import LineKind
from traffic.retail.invoices import InvoiceRow


class SoldKey(NamedTuple):
    """The key that a return and its sold line share."""

    merchant_id: str
    customer_id: str
    product_code: str


@dataclass(kw_only=True, slots=True)
class SoldLine:
    """A line of an imported order; `left` is the number of units that returns have not taken yet."""

    key: SoldKey
    kind: LineKind
    order_number: str
    line_number: int
    order_line_id: str
    order_id: str
    payment_id: str
    quantity: int
    left: int
    unit_price_micro: int
    placed_at: datetime


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a return that are assigned to one sold line."""

    order_line_id: str
    order_id: str
    payment_id: str
    quantity: int
    """Units of the line; carriage is always one unit, regardless of the row's quantity."""
    is_restocked: bool


class RowMatch(msgspec.Struct, frozen=True, kw_only=True):
    """One returned row: the matches of its units, and the number of unmatched units."""

    item: InvoiceRow
    matches: tuple[Match, ...]
    unmatched_quantity: int


class ReturnMatcher:
    """Matches returns one after another; units that one return takes are not available for the next."""

    def __init__(self, lines: Iterable[SoldLine]) -> None:
        self._lines: dict[SoldKey, list[SoldLine]] = {}
        for line in lines:
            self._lines.setdefault(line.key, []).append(line)
        for sold in self._lines.values():
            sold.sort(key=lambda line: (line.placed_at, line.order_number, line.line_number), reverse=True)

    def match(self, key: SoldKey | None, item: InvoiceRow, quantity: int) -> RowMatch:
        """Return the matches of `quantity` (> 0) units of the returned row; `key` is None for a guest."""
        lines = [] if key is None else self._lines.get(key, [])
        lines = [line for line in lines if line.left > 0 and line.placed_at <= item.row.invoiced_at]
        if item.rule.line_kind is LineKind.SHIPPING:
            return self._whole_charge(lines, item, quantity)
        matches: list[Match] = []
        left = quantity
        for line in _preferred(lines, left, item.row.unit_price_micro):
            taken = min(left, line.left)
            if taken:
                matches.append(_take(line, taken))
                left -= taken
        return RowMatch(item=item, matches=tuple(matches), unmatched_quantity=left)

    def _whole_charge(self, lines: Iterable[SoldLine], item: InvoiceRow, quantity: int) -> RowMatch:
        amount_micro = quantity * item.row.unit_price_micro
        for line in lines:
            if line.left == line.quantity and line.quantity * line.unit_price_micro == amount_micro:
                return RowMatch(item=item, matches=(_take(line, line.left),), unmatched_quantity=0)
        return RowMatch(item=item, matches=(), unmatched_quantity=quantity)


def _preferred(lines: list[SoldLine], quantity: int, unit_price_micro: int) -> Iterator[SoldLine]:
    """Yield the lines with a price above 0: only the exact counterpart if there is one, else all, same price first."""
    paid = [line for line in lines if line.unit_price_micro > 0]
    same_price = [line for line in paid if line.unit_price_micro == unit_price_micro]
    for line in same_price:
        if line.quantity == line.left == quantity:
            yield line
            return
    yield from same_price
    yield from (line for line in paid if line.unit_price_micro != unit_price_micro)


def _take(line: SoldLine, quantity: int) -> Match:
    line.left -= quantity
    return Match(
        order_line_id=line.order_line_id,
        order_id=line.order_id,
        payment_id=line.payment_id,
        quantity=quantity,
        is_restocked=line.kind is LineKind.GOODS,
    )
