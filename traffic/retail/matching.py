"""Which order a return belongs to: Online Retail's credit notes carry no reference to the invoice they credit.

Belongs here: the search, pure, over sold lines with what is left to refund of each. Does not belong here: reading those
lines (`books.py`), or refunding (`credits.py`).

A return is matched among the lines that the same customer bought of the same product, not after the return, newest
first; of one minute by invoice and line number, for ids are new in each import, and one file must give one result:
(1) a line with the same quantity and price of which nothing was given back yet; (2) lines with the same price; (3)
lines with another price. A return may take parts of several lines. Carriage is matched only as a whole charge of the
same amount. What finds no line stays unmatched; a guest's return always does, for nobody can say whose it is.
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
    """What a return and the line it belongs to have in common."""

    merchant_id: str
    customer_id: str
    product_code: str


@dataclass(kw_only=True, slots=True)
class SoldLine:
    """A line of an imported order; `left` goes down as returns take units of it."""

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
    """Units of a return that go back to one sold line."""

    order_line_id: str
    order_id: str
    payment_id: str
    quantity: int
    """Units of the line: carriage is one unit, whatever the file's row says."""
    is_restocked: bool


class RowMatch(msgspec.Struct, frozen=True, kw_only=True):
    """One returned row: where its units go, and how many found no line."""

    item: InvoiceRow
    matches: tuple[Match, ...]
    unmatched_quantity: int


class ReturnMatcher:
    """Matches returns one after another; what one return takes is gone for the next."""

    def __init__(self, lines: Iterable[SoldLine]) -> None:
        self._lines: dict[SoldKey, list[SoldLine]] = {}
        for line in lines:
            self._lines.setdefault(line.key, []).append(line)
        for sold in self._lines.values():
            sold.sort(key=lambda line: (line.placed_at, line.order_number, line.line_number), reverse=True)

    def match(self, key: SoldKey | None, item: InvoiceRow, quantity: int) -> RowMatch:
        """Return where `quantity` (> 0) units of the returned row go; `key` is None for a guest."""
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
    """Yield the lines that cost something: the exact counterpart alone, or else all of them, same price first."""
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
