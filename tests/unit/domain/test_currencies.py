"""All of ISO 4217, from one table: the standard's library, Python and every SQL side say the same."""

from __future__ import annotations

import duckdb
import iso4217
import pytest

from contracts import money
from contracts.currencies import EXPONENTS, WITHDRAWN, WITHOUT_MINOR_UNIT
from contracts.errors import InputError
from contracts.money import format_minor, micro_per_minor, micro_per_minor_sql, require_current


def test_the_table_is_the_standard_of_today() -> None:
    standard = {item.code: item.exponent for item in iso4217.Currency}
    current = {code: exponent for code, exponent in EXPONENTS.items() if code not in WITHDRAWN}
    assert current == {code: exponent for code, exponent in standard.items() if exponent is not None}
    assert {code for code, exponent in standard.items() if exponent is None} - {"X" * 3} == WITHOUT_MINOR_UNIT
    assert len(current) > 150 and set(EXPONENTS.values()) == {0, 2, 3, 4}


def test_decimals_are_those_of_the_currency() -> None:
    shown = {code: format_minor(1_234_567, code) for code in ("JPY", "VND", "EUR", "KWD", "CLF")}
    assert shown == {
        "JPY": "1234567",
        "VND": "1234567",
        "EUR": "12345.67",
        "KWD": "1234.567",
        "CLF": "123.4567",
    }
    assert [micro_per_minor(code) for code in shown] == [1_000_000, 1_000_000, 10_000, 1_000, 100]


def test_sql_knows_the_same_currencies() -> None:
    expression = micro_per_minor_sql("code", "hugeint")
    codes = [*EXPONENTS, *WITHOUT_MINOR_UNIT, "ZZZ"]
    rows = duckdb.connect().execute(f"select code, {expression} from (select unnest(?) as code)", [codes]).fetchall()
    known = {code: micro_per_minor(code) for code in EXPONENTS}
    assert dict(rows) == {**known, **dict.fromkeys([*WITHOUT_MINOR_UNIT, "ZZZ"])}


@pytest.mark.parametrize(
    ("code", "words"),
    [("XAU", "no minor unit"), ("XTS", "no minor unit"), ("DEM", "not known"), ("gbp", "not known"), ("\x1b[", "x1b")],
)
def test_what_is_no_currency_is_refused_in_words(code: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        require_current(code)
    assert str(refused.value).isprintable()


def test_a_withdrawn_currency_is_read_and_no_new_merchants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(money, "WITHDRAWN", frozenset({"BHD"}))
    assert format_minor(1_000, "BHD") == "1.000"
    with pytest.raises(InputError, match="withdrawn"):
        require_current("BHD")
