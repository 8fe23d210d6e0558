from __future__ import annotations

from datetime import UTC, datetime

import pytest

from contracts.errors import InputError
from traffic.retail.dates import DateEvidence, DateOrder, readings_of

DAY, MONTH, ISO = DateOrder.DAY_FIRST, DateOrder.MONTH_FIRST, DateOrder.ISO


def order_of(*texts: str, declared: DateOrder | None = None) -> DateOrder:
    evidence = DateEvidence(path="a.csv")
    for line, text in enumerate(texts, start=2):
        evidence.see(text, line)
    return evidence.order(declared)


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        ("2011-12-02 09:30:00", {ISO}),
        ("2011/12/02 09:30", {ISO}),
        ("02/12/2011 09:30", {DAY, MONTH}),
        ("2.12.2011", {DAY, MONTH}),
        ("13-12-2011 9:30", {DAY}),
        ("12/13/2011 9:30", {MONTH}),
        ("29/02/2012", {DAY}),
        ("29/02/2011", set()),
        ("31/02/2011", set()),
        ("2011-02-31", set()),
        ("02/12/11", set()),
        ("11-12-02", set()),
        ("0001-01-01", set()),
        ("2011-12-02 25:00", set()),
        ("2011-12-02 09:30 PM", set()),
        ("20111202", set()),
        ("", set()),
    ],
)
def test_in_which_orders_a_text_is_a_date(text: str, orders: set[DateOrder]) -> None:
    assert set(readings_of(text)) == orders


def test_both_readings_of_one_text() -> None:
    found = readings_of("02/12/2011 09:30")
    assert found[DAY] == datetime(2011, 12, 2, 9, 30, tzinfo=UTC)
    assert found[MONTH] == datetime(2011, 2, 12, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (("02/12/2011", "03/12/2011", "13/12/2011"), DAY),
        (("13/12/2011", "02/12/2011"), DAY),
        (("12/02/2011", "12/13/2011"), MONTH),
        (("2011-12-02", "2011-12-13"), ISO),
        (("05/05/2011",), ISO),
        (("never", "13/12/2011", "31/02/2011"), DAY),
        ((), ISO),
    ],
)
def test_the_whole_file_proves_its_order(texts: tuple[str, ...], order: DateOrder) -> None:
    assert order_of(*texts) is order


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("2/12/2011", "3/12/2011"), r"line 2: 2/12/2011, and no date in it tells.*--date-order day-first"),
        (("2/12/2011", "13/12/2011", "12/13/2011"), r"day-first \(line 3: 13/12/2011\) and month-first \(line 4"),
        (("2011-02-12", "13/12/2011"), r"iso \(line 2: 2011-02-12\) and day-first \(line 3"),
        (("2/12/2011", "2011-02-12"), r"year first \(line 3: 2011-02-12\).*year last \(line 2: 2/12/2011\)"),
    ],
)
@pytest.mark.parametrize("declared", [None, DAY])
def test_a_file_without_one_order_is_refused(texts: tuple[str, ...], said: str, declared: DateOrder | None) -> None:
    if declared is not None and "no date in it tells" in said:
        assert order_of(*texts, declared=declared) is declared
        return
    with pytest.raises(InputError, match=said):
        order_of(*texts, declared=declared)


@pytest.mark.parametrize(
    ("text", "declared"), [("12/13/2011", DAY), ("13/12/2011", MONTH), ("2011-12-13", DAY), ("2/12/2011", ISO)]
)
def test_a_declared_order_must_fit_the_file(text: str, declared: DateOrder) -> None:
    with pytest.raises(InputError, match=f"in the order {declared}: line 2: {text}"):
        order_of(text, declared=declared)
