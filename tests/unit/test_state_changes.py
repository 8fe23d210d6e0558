"""What differs between two states, and whether it is money: a field that nobody has called descriptive is."""

from __future__ import annotations

import msgspec
import pytest

from contracts.events import STATE_TYPES
from contracts.events.changes import DESCRIPTIVE, field_changes, state_digest
from contracts.events.order import OrderState
from contracts.events.payment import PaymentState
from reconcile.entities import SOURCES, part_type
from tests.unit.domain.builders import merchant, placed, unpriced

MONEY_WORDS = ("_minor", "_micro", "_ppm", "quantity", "currency", "status", "merchant_id", "jurisdiction", "kind")


@pytest.fixture
def order() -> OrderState:
    return placed(merchant(), [unpriced(1, 3, 2_555_000), unpriced(2, 1, 10_000_000)])


def names(before: OrderState | PaymentState | None, after: OrderState | PaymentState | None) -> dict[str, bool]:
    return {change.field: change.is_money for change in field_changes(before, after)}


def test_both_values_of_each_field_and_whether_it_is_money(order: OrderState) -> None:
    assert field_changes(order, order) == ()
    line = msgspec.structs.replace(order.lines[0], title="Mug", amount_minor=order.lines[0].amount_minor + 1)
    after = msgspec.structs.replace(
        order, total_minor=order.total_minor + 1, customer_id="somebody", lines=[line, *order.lines[1:]]
    )
    found = field_changes(order, after)
    assert {change.field: change.is_money for change in found} == {
        "customer_id": False,
        "total_minor": True,
        "lines[1].title": False,
        "lines[1].amount_minor": True,
    }
    assert [change.field for change in found][:2] == ["customer_id", "total_minor"], "its own fields come first"
    total = next(change for change in found if change.field == "total_minor")
    assert (total.before, total.after) == (order.total_minor, order.total_minor + 1)


def test_a_part_that_came_or_went_is_money_and_so_is_a_whole_row(order: OrderState) -> None:
    shorter = msgspec.structs.replace(order, lines=order.lines[:-1])
    last = f"lines[{len(order.lines)}]."
    assert {field for field in names(order, shorter)} == {f"{last}{name}" for name in order.lines[0].__struct_fields__
                                                         if getattr(order.lines[-1], name) is not None}  # fmt: skip
    assert set(names(order, shorter).values()) == {True}
    assert names(None, order)["total_minor"] and not names(None, order)["order_number"]
    assert names(order, None) == names(None, order)


def test_the_digest_is_of_every_field(order: OrderState) -> None:
    assert state_digest(order) == state_digest(msgspec.convert(msgspec.to_builtins(order), OrderState))
    assert state_digest(order) != state_digest(msgspec.structs.replace(order, version=order.version + 1))


def test_nothing_that_is_money_by_its_name_is_called_descriptive() -> None:
    fields = set()
    for name, state in STATE_TYPES.items():
        fields |= set(state.__struct_fields__)
        for part in SOURCES[name].parts:
            fields |= set(part_type(state, part.field).__struct_fields__)
    assert fields >= DESCRIPTIVE, "a field that no aggregate has"
    assert {name for name in fields if any(word in name for word in MONEY_WORDS)} & DESCRIPTIVE == set()
