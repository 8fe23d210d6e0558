"""How a report's figures look: text for people and CSV, integers for programs.

Belongs here: headings, amounts in major units, CSV, the plain values of JSON. Does not belong here: figures
(`derived/reports.py`), spreadsheets and pages (`finance/spreadsheet.py`, `finance/page.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from contracts.money import CURRENCY_EXPONENTS, format_minor
from contracts.text import counted
from derived.reports import Report
from finance.content_hash import is_number
from finance.separated import line, text_cell

MICRO = "_micro"
MINOR = "_minor"
MICRO_EXPONENT = 6


def exponent(name: str, currency: str | None) -> int:
    """Return how many decimals a column's numbers have when they are shown in this currency."""
    if name.endswith(MINOR) and currency is not None:
        return CURRENCY_EXPONENTS[currency]
    return MICRO_EXPONENT if name.endswith(MICRO) else 0


def without_unit(name: str) -> str:
    """Return a column's name without its unit, for amounts in major units."""
    return name.removesuffix(MINOR).removesuffix(MICRO)


def heading(name: str) -> str:
    """Return a column's heading: its name in words, without the unit."""
    return without_unit(name).removesuffix("_id").replace("_", " ").capitalize()


def headings(report: Report) -> list[str]:
    """Return the headings of a report's columns."""
    return [heading(name) for name in report.columns]


def currency_of(columns: Sequence[str], row: Sequence[object]) -> str | None:
    """Return the currency of a row; None if the report has no column `currency`."""
    return str(row[columns.index("currency")]) if "currency" in columns else None


def shown_rows(report: Report) -> list[list[str]]:
    """Return the rows as text; money as decimals in major units of the row's currency."""
    return [
        [_shown(name, value, currency_of(report.columns, row)) for name, value in zip(report.columns, row, strict=True)]
        for row in report.rows
    ]


def _shown(name: str, value: object, currency: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int | Decimal) and name.endswith(MINOR) and currency is not None:
        return format_minor(int(value), currency)
    if isinstance(value, int | Decimal) and name.endswith(MICRO):
        return f"{scaled(value, -MICRO_EXPONENT):.{MICRO_EXPONENT}f}"
    return str(value)


def scaled(value: int | Decimal, places: int) -> Decimal:
    """Return a number times ten to the power of `places`, exactly; Decimal arithmetic would round to 28 digits."""
    sign, digits, exponent_of = Decimal(value).as_tuple()
    return Decimal((sign, digits, int(exponent_of) + places))


def as_csv(report: Report) -> str:
    """Return the report as CSV with a heading line; amounts as shown to people."""
    numbers = [is_number(name) for name in report.columns]
    lines = [
        # A text that begins with a minus sign could be read as a formula; a negative amount is a number.
        line([cell if is_amount else text_cell(cell) for is_amount, cell in zip(numbers, row, strict=True)])
        for row in shown_rows(report)
    ]
    # The headings have no unit, because the amounts are decimals in major units.
    return line([without_unit(name) for name in report.columns]) + "".join(lines)


def standing(report: Report) -> str:
    """Return the cuts of the figures and their age, in one sentence."""
    cuts = ", ".join(f"{pod} at cut {cut}" for pod, cut in sorted(report.cuts.items())) or "no pod"
    age = f", as of {report.data_at:%Y-%m-%d %H:%M:%S} UTC" if report.data_at else ""
    return f"{counted(len(report.rows), 'row')}; {cuts}{age}."


def moment(text: str | None) -> str:
    """Return a time (ISO 8601, UTC) to the second; a dash for None."""
    return "-" if text is None else f"{text[:19].replace('T', ' ')} UTC"
