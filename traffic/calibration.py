"""The statistics of real trade, as constants, and the code that measured them.

Belongs here: the statistics that the generator imitates (skew over merchants and products, lines per order, quantities,
prices, shares of credit notes, write-offs and guests), and how to measure them. Does not belong here: drawing orders
from them (`plans.py`).

The constants come from the UCI data set 352, Online Retail, 2010-12 to 2011-08. To measure them again::

    python -m traffic.calibration FILE.csv.gz ...
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from contracts.money import micro_per_minor
from traffic.retail.files import inspect_files
from traffic.retail.invoice_commands import CURRENCY
from traffic.retail.invoices import InvoiceKey
from traffic.retail.rows import Row, read_rows
from traffic.retail.rules import Treatment, classify, product_code

PROBABILITIES_PERMYRIAD = (100, 500, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 9500, 9900, 9990, 10_000)
"""The probabilities of the quantiles, in parts of 10,000."""
TOP_PRODUCTS_PERMYRIAD = (100, 500, 1000, 2000, 5000)
"""The best-selling fractions of the catalog whose share is measured, in parts of 10,000."""
PERMYRIAD = 10_000

PRODUCT_SKEW_EXPONENT_PERCENT = 125
PRODUCT_SKEW_OFFSET_PERMYRIAD = 450
"""A product's weight is (rank + offset x catalog) ** -1.25: the Zipf-Mandelbrot law that fits `top_products` best."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of trade. Shares are in parts of 10,000; quantiles are at PROBABILITIES_PERMYRIAD."""

    merchant_shares: tuple[int, ...]
    """Share of the orders by merchant, largest first."""
    lines_per_order: tuple[int, ...]
    units_per_line: tuple[int, ...]
    unit_price_minor: tuple[int, ...]
    top_products: tuple[int, ...]
    """Share of the order lines for the best-selling TOP_PRODUCTS_PERMYRIAD of the catalog."""
    guests: int
    """Share of the orders without a customer."""
    credit_notes: int
    """Credit notes per order."""
    write_offs: int
    """Write-offs per order."""
    free_orders: int
    """Share of the free orders."""


REAL = Shape(
    merchant_shares=(9099, 210, 177, 129, 50, 45, 42, 30, 25, 24, 19, 15, 15, 12, 12, 12, 11, 10, 8, 8),
    lines_per_order=(1, 1, 1, 4, 7, 10, 14, 18, 23, 32, 50, 72, 197, 527, 705),
    units_per_line=(1, 1, 1, 1, 2, 2, 3, 6, 8, 12, 24, 30, 100, 480, 74_215),
    unit_price_minor=(29, 42, 65, 85, 128, 165, 210, 295, 375, 495, 795, 995, 1800, 17_967, 814_275),
    top_products=(970, 2986, 4510, 6450, 9157),
    guests=1203,
    credit_notes=1900,
    write_offs=713,
    free_orders=372,
)
"""Measured over all nine months: 12,971 orders with 313,924 lines of 3,548 products in 37 countries."""


def draw(quantiles: Sequence[int], rng: random.Random, *, up_to: int = PERMYRIAD) -> int:
    """Draw a value from the distribution with these quantiles, with interpolation; `up_to` cuts off the upper tail."""
    at = rng.randrange(up_to)
    below_at, below = 0, quantiles[0]
    for above_at, above in zip(PROBABILITIES_PERMYRIAD, quantiles, strict=True):
        if at < above_at:
            return below + (above - below) * (at - below_at) // (above_at - below_at)
        below_at, below = above_at, above
    return quantiles[-1]


def product_weights(count: int) -> list[float]:
    """Return the weights of a catalog's products, best-selling first (weights only: no money is computed with them)."""
    offset = count * PRODUCT_SKEW_OFFSET_PERMYRIAD / PERMYRIAD
    return [(rank + offset) ** (-PRODUCT_SKEW_EXPONENT_PERCENT / 100) for rank in range(1, count + 1)]


@dataclass(kw_only=True)
class Tally:
    """The counts of one pass over sales, from which the shape is computed."""

    lines: Counter[InvoiceKey] = field(default_factory=Counter)
    amounts: Counter[InvoiceKey] = field(default_factory=Counter)
    units: Counter[int] = field(default_factory=Counter)
    prices: Counter[int] = field(default_factory=Counter)
    products: Counter[str] = field(default_factory=Counter)
    guests: set[InvoiceKey] = field(default_factory=set)
    credit_notes: set[InvoiceKey] = field(default_factory=set)
    write_offs: set[InvoiceKey] = field(default_factory=set)

    def add(self, order: InvoiceKey, product: str, units: int, price_minor: int, *, is_guest: bool) -> None:
        """Count one order line."""
        self.lines[order] += 1
        self.amounts[order] += units * price_minor
        self.units[units] += 1
        self.prices[price_minor] += 1
        self.products[product] += 1
        if is_guest:
            self.guests.add(order)

    def shape(self) -> Shape:
        """Return the shape of the counted orders; at least one order is required."""
        orders = len(self.lines)
        merchants = Counter(key.merchant_id for key in self.lines)
        free = sum(1 for amount in self.amounts.values() if amount == 0)
        return Shape(
            merchant_shares=tuple(round(count * PERMYRIAD / orders) for _, count in merchants.most_common()),
            lines_per_order=_quantiles(Counter(self.lines.values())),
            units_per_line=_quantiles(self.units),
            unit_price_minor=_quantiles(self.prices),
            top_products=_top_shares(self.products),
            guests=len(self.guests) * PERMYRIAD // orders,
            credit_notes=len(self.credit_notes) * PERMYRIAD // orders,
            write_offs=len(self.write_offs) * PERMYRIAD // orders,
            free_orders=free * PERMYRIAD // orders,
        )


def measure(paths: Sequence[Path]) -> Shape:
    """Return the shape of Online Retail files."""
    tally = Tally()
    for file, source in enumerate(inspect_files(paths)):
        for row in read_rows(source, file):
            if isinstance(row, Row):
                _tally_row(tally, row)
    return tally.shape()


def _tally_row(tally: Tally, row: Row) -> None:
    treatment = classify(row.invoice, row.stock_code, row.quantity, row.unit_price_micro).treatment
    key = InvoiceKey(row.merchant_id, row.invoice)
    if treatment is Treatment.ORDER_LINE:
        price_minor = row.unit_price_micro // micro_per_minor(CURRENCY)
        tally.add(key, product_code(row.stock_code), row.quantity, price_minor, is_guest=row.customer_id is None)
    elif treatment is Treatment.RETURN:
        tally.credit_notes.add(key)
    elif treatment is Treatment.WRITE_OFF:
        tally.write_offs.add(key)


def _quantiles(counts: Counter[int]) -> tuple[int, ...]:
    values = sorted(counts.items())
    total = sum(counts.values())
    found = []
    place, seen = 0, values[0][1]
    for probability in PROBABILITIES_PERMYRIAD:
        while seen * PERMYRIAD < probability * total:
            place += 1
            seen += values[place][1]
        found.append(values[place][0])
    return tuple(found)


def _top_shares(counts: Counter[str]) -> tuple[int, ...]:
    ordered = sorted(counts.values(), reverse=True)
    total = sum(ordered)
    return tuple(
        sum(ordered[: len(ordered) * part // PERMYRIAD]) * PERMYRIAD // total for part in TOP_PRODUCTS_PERMYRIAD
    )


if __name__ == "__main__":
    shape = measure([Path(argument) for argument in sys.argv[1:]])
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(shape), indent=2).decode() + "\n")
