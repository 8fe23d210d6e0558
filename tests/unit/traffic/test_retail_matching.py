from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contracts.events.order import LineKind
from traffic.retail.invoices import InvoiceRow
from traffic.retail.matching import ReturnMatcher, SoldKey, SoldLine
from traffic.retail.rows import Row
from traffic.retail.rules import Rule, Treatment

KEY = SoldKey("united-kingdom", "17850", "85123A")
DAY = datetime(2010, 12, 1, tzinfo=UTC)


def sold(
    name: str, quantity: int, price: int = 255, *, day: int = 0, kind: LineKind = LineKind.GOODS, number: str = "1"
) -> SoldLine:
    return SoldLine(
        key=KEY,
        kind=kind,
        order_number=number,
        line_number=int(name) if name.isdigit() else 1,
        order_line_id=name,
        order_id=f"order-{name}",
        payment_id=f"payment-{name}",
        quantity=quantity,
        left=quantity,
        unit_price_micro=price * 10_000,
        placed_at=DAY + timedelta(days=day),
    )


def returned(quantity: int, price: int = 255, *, day: int = 9, kind: LineKind = LineKind.GOODS) -> InvoiceRow:
    row = Row(
        file=0,
        line=1,
        invoice="C1",
        stock_code="85123A",
        description="",
        quantity=-quantity,
        unit_price_micro=price * 10_000,
        invoiced_at=DAY + timedelta(days=day),
        customer_id="17850",
        merchant_id="united-kingdom",
        country="United Kingdom",
    )
    return InvoiceRow(ordinal=1, row=row, rule=Rule(treatment=Treatment.RETURN, line_kind=kind))


def taken(matcher: ReturnMatcher, item: InvoiceRow, key: SoldKey | None = KEY) -> tuple[list[tuple[str, int]], int]:
    result = matcher.match(key, item, -item.row.quantity)
    return [(match.order_line_id, match.quantity) for match in result.matches], result.unmatched_quantity


def test_the_line_of_same_quantity_and_price_wins_over_newer_ones() -> None:
    matcher = ReturnMatcher([sold("old", 4), sold("new", 6, day=1), sold("other price", 4, 300, day=2)])
    assert taken(matcher, returned(4)) == ([("old", 4)], 0)


def test_lines_of_one_minute_are_told_apart_by_number_and_not_by_id() -> None:
    first = [sold("1", 4, 300, number="536365"), sold("2", 4, 280, number="536365"), sold("1", 4, 290, number="536366")]
    for lines in (first, first[::-1]):
        # Ids are drawn anew in each import, and books that follow from one file must not.
        for number, line in enumerate(lines):
            line.order_line_id, line.left = f"line {number} at {line.unit_price_micro}", line.quantity
        matched = ReturnMatcher(lines).match(KEY, returned(7), 7).matches
        assert [(one.order_line_id.split(" at ")[1], one.quantity) for one in matched] == [
            ("2900000", 4),
            ("2800000", 3),
        ]


def test_else_the_newest_line_of_that_price_and_parts_of_several() -> None:
    matcher = ReturnMatcher([sold("old", 4), sold("new", 6, day=1), sold("dear", 5, 300, day=2)])
    assert taken(matcher, returned(8)) == ([("new", 6), ("old", 2)], 0)
    assert taken(matcher, returned(4)) == ([("old", 2), ("dear", 2)], 0)


def test_what_is_given_back_once_is_gone() -> None:
    matcher = ReturnMatcher([sold("only", 4)])
    assert taken(matcher, returned(4)) == ([("only", 4)], 0)
    assert taken(matcher, returned(4)) == ([], 4)


def test_a_line_partly_given_back_is_no_exact_counterpart() -> None:
    matcher = ReturnMatcher([sold("a", 4), sold("b", 4, day=1)])
    assert taken(matcher, returned(1)) == ([("b", 1)], 0)
    assert taken(matcher, returned(4)) == ([("a", 4)], 0)


def test_more_than_was_sold_stays_unmatched() -> None:
    assert taken(ReturnMatcher([sold("a", 4)]), returned(10)) == ([("a", 4)], 6)


def test_later_orders_free_lines_and_guests_never_match() -> None:
    matcher = ReturnMatcher([sold("later", 4, day=10), sold("free", 4, 0)])
    assert taken(matcher, returned(4)) == ([], 4)
    assert taken(ReturnMatcher([sold("a", 4)]), returned(4), None) == ([], 4)


def test_carriage_matches_as_a_whole_charge_only() -> None:
    matcher = ReturnMatcher([sold("three parcels", 1, 5400, kind=LineKind.SHIPPING)])
    assert taken(matcher, returned(1, 1800, kind=LineKind.SHIPPING)) == ([], 1)
    assert taken(matcher, returned(3, 1800, kind=LineKind.SHIPPING)) == ([("three parcels", 1)], 0)
    result = ReturnMatcher([sold("a", 1, 1800, kind=LineKind.SHIPPING)]).match(
        KEY, returned(1, 1800, kind=LineKind.SHIPPING), 1
    )
    assert not result.matches[0].is_restocked
