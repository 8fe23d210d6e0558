"""What identifies a command under its key, and how its stored answer is read again."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.events.merchant import MerchantState
from contracts.events.stock import ReservationState
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import Command, answer_type, body_hash
from oltp.commands.expire_reservations import ExpireReservations
from oltp.commands.receive_stock import StockInput, units_by_variant


def test_the_hash_depends_on_the_command_and_every_field() -> None:
    command = ConfigureMerchant(merchant_id="a", name="A")
    assert body_hash(command) == body_hash(ConfigureMerchant(merchant_id="a", name="A"))
    others: list[Command[Any]] = [
        msgspec.structs.replace(command, name="B"),
        msgspec.structs.replace(command, free_shipping_from_minor=None),
        ExpireReservations(merchant_id="a"),
    ]
    assert len({body_hash(command), *map(body_hash, others)}) == 4


def test_answers_have_the_type_that_the_command_declares() -> None:
    assert answer_type(ConfigureMerchant) is MerchantState
    assert answer_type(ExpireReservations) == list[ReservationState]


def test_a_command_says_which_field_it_does_not_know() -> None:
    with pytest.raises(msgspec.ValidationError, match="nickname"):
        msgspec.json.decode(b'{"merchant_id": "a", "nickname": "b"}', type=ConfigureMerchant)


def test_lines_of_one_variant_count_together() -> None:
    lines = [StockInput(variant_id=name, quantity=quantity) for name, quantity in (("a", 1), ("b", 2), ("a", 3))]
    assert units_by_variant(lines) == {"a": 4, "b": 2}
