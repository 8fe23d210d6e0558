"""What identifies a command under its key, and how its stored answer is read again."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import msgspec
import pytest

from contracts.events.merchant import MerchantState
from contracts.events.stock import ReservationState
from oltp.commands.body import body_hash, has_body
from oltp.commands.configure_merchant import ConfigureMerchant
from oltp.commands.execute import Command, answer_type
from oltp.commands.expire import ExpireReservations
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


class OldPart(msgspec.Struct, frozen=True, kw_only=True):
    sku: str


class Part(msgspec.Struct, frozen=True, kw_only=True):
    ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"colour"})

    sku: str
    colour: str = "none"


def later(parts: list[Part], **said: Any) -> Command[Any]:
    """A command as a later release has it: with two more fields, and a part with one more."""

    class Ask(Command[None], frozen=True, kw_only=True):
        ADDED_LATER: ClassVar[frozenset[str]] = frozenset({"channel", "tags"})

        parts: list[Part]
        reason: str = ""
        channel: str = "a shop's"
        tags: list[str] = msgspec.field(default_factory=list)

    return Ask(merchant_id="m", parts=parts, **said)


def earlier(sku: str, **said: Any) -> Command[Any]:
    class Ask(Command[None], frozen=True, kw_only=True):
        parts: list[OldPart]
        reason: str = ""

    return Ask(merchant_id="m", parts=[OldPart(sku=sku)], **said)


def first_hash(command: Command[Any]) -> str:
    """As stored by the first releases: the whole body."""
    body = msgspec.json.encode(command, order="deterministic")
    return hashlib.sha256(type(command).__name__.encode() + b"\n" + body).hexdigest()


@pytest.mark.parametrize("said", [{}, {"reason": "because"}, {"reason": ""}])
def test_a_retry_across_a_deployment_that_added_fields_is_the_same_command(said: dict[str, Any]) -> None:
    before, now = earlier("a", **said), later([Part(sku="a")], **said)
    for stored in (body_hash(before), first_hash(before)):
        assert has_body(now, stored)
        # A value that is equal and not the same object is a default, too; any other is another body.
        assert has_body(later([Part(sku="a", colour="".join("none"))], channel="".join("a shop's"), **said), stored)
        assert not has_body(later([Part(sku="b")], **said), stored)
        assert not has_body(later([Part(sku="a")], reason="another", channel="a shop's"), stored)
        assert not has_body(later([Part(sku="a")], channel="an app's", **said), stored)
        assert not has_body(later([Part(sku="a", colour="red")], **said), stored)
        assert not has_body(later([Part(sku="a")], tags=["x"], **said), stored)


def test_what_a_default_is_said_of_is_what_is_not_said() -> None:
    assert body_hash(later([Part(sku="a")], reason="")) == body_hash(later([Part(sku="a")]))
    assert body_hash(later([])) != body_hash(later([Part(sku="a")]))


def test_answers_have_the_type_that_the_command_declares() -> None:
    assert answer_type(ConfigureMerchant) is MerchantState
    assert answer_type(ExpireReservations) == list[ReservationState]


def test_a_command_says_which_field_it_does_not_know() -> None:
    with pytest.raises(msgspec.ValidationError, match="nickname"):
        msgspec.json.decode(b'{"merchant_id": "a", "nickname": "b"}', type=ConfigureMerchant)


def test_lines_of_one_variant_count_together() -> None:
    lines = [StockInput(variant_id=name, quantity=quantity) for name, quantity in (("a", 1), ("b", 2), ("a", 3))]
    assert units_by_variant(lines) == {"a": 4, "b": 2}
