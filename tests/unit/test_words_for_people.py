"""Numbers with their nouns, and amounts in major units, as people read them."""

from __future__ import annotations

import pytest

from contracts.money import amount_name, in_major_units
from contracts.text import are, counted


def test_one_is_singular_and_all_else_is_plural() -> None:
    assert [counted(number, "key differs", "keys differ") for number in (0, 1, 2)] == [
        "0 keys differ",
        "1 key differs",
        "2 keys differ",
    ]
    assert (counted(1_200, "break"), counted(1, "entry", "entries")) == ("1,200 breaks", "1 entry")
    assert [are(number) for number in (0, 1, 2)] == ["are", "is", "are"]


@pytest.mark.parametrize(
    ("column", "value", "currency", "shown"),
    [
        ("total_minor", 1205, "GBP", "12.05 GBP"),
        ("total_minor", -1205, "EUR", "-12.05 EUR"),
        ("total_minor", 1205, "JPY", "1205 JPY"),
        ("unit_price_micro", 125_000, "EUR", "0.125 EUR"),
        ("amount_micro", -2_000_000, "EUR", "-2.00 EUR"),
        ("amount_micro", 5_000_000, "JPY", "5 JPY"),
        ("quantity", 12, "EUR", None),
        ("total_minor", None, "EUR", None),
        ("total_minor", 12, "XXX", None),
        ("total_minor", 12, None, None),
    ],
)
def test_amounts_are_told_in_major_units(column: str, value: int | None, currency: str | None, shown: str) -> None:
    assert in_major_units(column, value, currency) == shown
    assert amount_name(column) == column.split("_mi")[0]
