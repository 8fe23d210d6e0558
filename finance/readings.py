"""Ways to read a cell's text: as Tieout wrote it, or as another program writes it when it saves the file again.

A file is unchanged if one way to read the whole file gives the certified checksum. A wrong way gives it only by a
SHA-256 collision. So a decimal comma, a day as 31/12/2010 or other line ends in a name do no harm; but if a figure, a
name or a day was changed, no way gives the checksum.

Belongs here: those ways. Does not belong here: files (`finance/verification.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import product

from contracts.money import CURRENCY_EXPONENTS
from contracts.text import counted
from finance.content_hash import is_number
from finance.presentation import exponent

SPACES = str.maketrans("", "", " \u00a0\u202f'\u2019")
"""Characters that separate thousands in some countries."""
DAY = re.compile(r"(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})(?:[T ]00:00(?::00(?:\.0+)?)?Z?)?")

DIGITS_MAX = 60
"""Limit on the zeros that a number's exponent stands for; no amount has as many digits."""

Numbers = Callable[[str], str]
Days = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How numbers, days and line ends are written; `name` is empty for Tieout's own way."""

    name: str
    numbers: Numbers
    days: Days
    ends: Callable[[str], str]


def ways(*, has_decimal_comma: bool) -> Iterator[Way]:
    """Yield the ways to read, Tieout's own way first."""
    numbers: list[tuple[str, Numbers]] = [("", _point)]
    if has_decimal_comma:
        numbers.append(("decimal commas", _comma))
    days: list[tuple[str, Days]] = [("", str), ("days first", _day_first), ("months first", _month_first)]
    ends: list[tuple[str, Callable[[str], str]]] = [("", str), ("other line ends in names", _line_feeds)]
    for number, day, end in product(numbers, days, ends):
        name = ", ".join(item[0] for item in (number, day, end) if item[0])
        yield Way(name=name, numbers=number[1], days=day[1], ends=end[1])


def content_rows(columns: Sequence[str], cells: Sequence[Sequence[str]], way: Way) -> list[list[object]]:
    """Return the lines (without the heading) as content values; ValueError if a line has other cells."""
    currency = columns.index("currency")
    rows = []
    for number, line in enumerate(cells, 2):
        if len(line) != len(columns):
            raise ValueError(f"line {number} has {counted(len(line), 'cell')}, and the heading {len(columns):,}")
        rows.append([_value(name, text, line[currency], way) for name, text in zip(columns, line, strict=True)])
    return rows


def _value(name: str, text: str, currency: str, way: Way) -> object:
    """Return the value of a cell's text: an amount in the unit at the end of the column's name, a day, or a text.

    Raises ValueError for an unknown currency and for an amount that is not a number.
    """
    if text == "":
        return None
    if not is_number(name):
        return way.days(text) if name.endswith(("_date", "_month")) else way.ends(text)
    if currency not in CURRENCY_EXPONENTS:
        raise ValueError(f"currency {currency!r} is not known")
    try:
        value = Decimal(way.numbers(text))
        sign, digits, places = value.as_tuple()
        if not isinstance(places, int) or places > DIGITS_MAX:
            raise InvalidOperation
    except InvalidOperation:
        raise ValueError(f"{text[:40]!r} in column {name} is no number") from None
    # Exact: Decimal arithmetic would round to the context's digits.
    scaled = Decimal((sign, digits, places + exponent(name, currency)))
    return int(scaled) if scaled == scaled.to_integral_value() else text


def _point(text: str) -> str:
    return text.replace(",", "").translate(SPACES)


def _comma(text: str) -> str:
    return text.replace(".", "").translate(SPACES).replace(",", ".")


def _day_first(text: str) -> str:
    return _day(text, (2, 1, 0))


def _month_first(text: str) -> str:
    return _day(text, (2, 0, 1))


def _day(text: str, order: tuple[int, int, int]) -> str:
    found = DAY.fullmatch(text)
    if found is None:
        return text
    parts = [int(part) for part in found.groups()]
    is_iso = len(found.group(1)) == 4
    year, month, day = parts if is_iso else (parts[place] for place in order)
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return text


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
