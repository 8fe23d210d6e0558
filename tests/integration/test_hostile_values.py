"""Every field of every command with values that no store should get: an InputError that names the field, or an answer.

Nothing else may come out: no error of Python, of a driver or of a server.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import psycopg
import pytest

from contracts.errors import ConflictError, InputError
from contracts.limits import Characters, Limit, Text
from oltp.commands.authorize_payment import AuthorizePayment
from oltp.commands.checking import check_fields
from oltp.commands.execute import Command, CommandPod, build_command_pod, execute
from oltp.commands.receive_stock import ReceiveStock, StockInput
from oltp.commands.register import COMMANDS
from oltp.commands.set_price import SetPrice
from oltp.commands.upsert_product import UpsertProduct, VariantInput
from tests.conftest import MakePod
from tests.integration.oltp_pod import MERCHANT, add_product, key, register

CONTROL = "a\x1b[31mb"
BIDI = "a\u202eb"
TEXTS = (
    "",
    "a" * 20_000,
    "\U0001f600" * 3_000,
    "a\x00b",
    "\ud800",
    "a\udfffb",
    CONTROL,
    BIDI,
    "a\nb",
    "a\u2028b",
    "/",
    " ",
)
WRONG = (
    True,
    1.0,
    1.5,
    math.nan,
    math.inf,
    Decimal("1"),
    Fraction(1, 2),
    b"bytes",
    date(2026, 1, 1),
    {"a": 1},
    ["x"],
    object(),
    datetime(2026, 1, 1),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(9999, 12, 31, 23, 59, tzinfo=timezone(timedelta(hours=-12))),
    datetime(2026, 1, 1, tzinfo=timezone(timedelta(seconds=1))),
    10**18 + 1,
    -(10**18) - 1,
    2**63,
    -(2**63) - 1,
    10**5_000,
    "10",
    "gone",
    None,
    *TEXTS,
)


def valid(hint: Any, name: str) -> Any:
    """Return a value that a field of this type accepts."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *notes = get_args(hint)
        limit = next((note for note in notes if isinstance(note, Limit)), None)
        least = getattr(limit, "least", 1)
        if base is str:
            return {"an id": str(uuid.uuid4()), "a currency": "GBP"}.get(getattr(limit, "name", ""), "standard")
        return max(least, 1) if base is int else valid(base, name)
    if origin in (Union, UnionType):
        return valid(next(item for item in get_args(hint) if item not in (NoneType, msgspec.UnsetType)), name)
    if origin is list:
        (item,) = get_args(hint)
        return [valid(item, name)]
    if issubclass(hint, StrEnum):
        return next(iter(hint))
    if issubclass(hint, msgspec.Struct):
        return hint(**{field: valid(item, field) for field, item in fields_of(hint).items()})
    return {bool: True, datetime: datetime(2027, 1, 1, tzinfo=UTC), str: "standard", int: 1}[hint]


def fields_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(struct, include_extras=True)
    return {name: hints[name] for name in struct.__struct_fields__}


def a_command(kind: type[Command[Any]]) -> Command[Any]:
    """Return a command that keeps all limits, whatever it asks for."""
    values = {name: valid(hint, name) for name, hint in fields_of(kind).items()}
    return kind(**{**values, "merchant_id": "newcomer" if kind.REGISTERS else MERCHANT})


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Return the path of every field and item of a command, nested ones included."""
    if isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield (*path, name)
            yield from places(getattr(value, name), (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield (*path, number)
            yield from places(item, (*path, number))


def with_value(value: Any, path: tuple[str | int, ...], hostile: Any) -> Any:
    """Return a copy with one field or item replaced."""
    if not path:
        return hostile
    first, *rest = path
    if isinstance(first, int):
        return [with_value(item, tuple(rest), hostile) if n == first else item for n, item in enumerate(value)]
    return msgspec.structs.replace(value, **{first: with_value(getattr(value, first), tuple(rest), hostile)})


@pytest.fixture
def pod(make_pod: MakePod) -> Iterator[CommandPod]:
    with build_command_pod(make_pod()) as opened:
        register(opened)
        yield opened


def limits_in(hint: Any) -> list[Limit]:
    """Return the limits that a type declares for itself, None and items apart."""
    if get_origin(hint) is Annotated:
        return [note for note in get_args(hint)[1:] if isinstance(note, Limit)]
    if get_origin(hint) in (Union, UnionType):
        return [limit for item in get_args(hint) for limit in limits_in(item)]
    return []


def named(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_every_field_declares_its_limit(kind: type[Command[Any]]) -> None:
    structs: list[type[msgspec.Struct]] = [kind]
    for struct in structs:
        for name, hint in fields_of(struct).items():
            inner = [item for item in get_args(hint) or (hint,) if item not in (NoneType, msgspec.UnsetType)]
            text = str(hint)
            if "StrEnum" in str([getattr(item, "__mro__", "") for item in inner]) or inner == [bool]:
                continue
            nested = [
                item for item in [hint, *inner, *[a for i in inner for a in get_args(i)]] if isinstance(item, type)
            ]
            structs += [item for item in nested if issubclass(item, msgspec.Struct) and item not in structs]
            if any(isinstance(item, type) and issubclass(item, msgspec.Struct) for item in inner):
                continue
            assert limits_in(hint), f"{struct.__name__}.{name}: {text}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_a_hostile_value_is_refused_in_words_or_accepted(pod: CommandPod, kind: type[Command[Any]]) -> None:
    command = a_command(kind)
    check_fields(command)
    for path in places(command):
        for hostile in WRONG:
            changed = with_value(command, path, hostile)
            try:
                check_fields(changed)
            except InputError as refusal:
                text = str(refusal)
                assert text.startswith(f"{kind.__name__}: {named(path)}") and text.isprintable(), text
                assert len(text) < 300, text
                continue
            # What its limit lets through must come to an answer, or to a refusal, too.
            try:
                execute(pod, changed, idempotency_key=key())
            except (InputError, ConflictError) as refusal:
                assert str(refusal)


@pytest.mark.parametrize("hostile", [text for text in TEXTS if text not in ("/", " ", "")])
@pytest.mark.parametrize("name", ["idempotency_key", "correlation_id", "causation_id", "traceparent", "occurred_at"])
def test_what_is_said_besides_a_command_has_limits_too(pod: CommandPod, name: str, hostile: str) -> None:
    command = SetPrice(merchant_id=MERCHANT, variant_id=str(uuid.uuid4()), unit_price_micro=1)
    said: dict[str, Any] = {"idempotency_key": "key", name: hostile}
    with pytest.raises(InputError, match=f"Request: {name} "):
        execute(pod, command, **said)


def test_a_merchant_id_that_nobody_can_have_is_said_to_be_none(pod: CommandPod) -> None:
    for hostile in (CONTROL, BIDI, "x" * 101):
        with pytest.raises(InputError, match=r"merchant_id (holds|has)"):
            execute(
                pod,
                SetPrice(merchant_id=hostile, variant_id=str(uuid.uuid4()), unit_price_micro=1),
                idempotency_key="k",
            )


def test_both_engines_refuse_the_same_characters(make_pod: MakePod) -> None:
    points = [
        point for point in (*range(1, 0x3000), *range(0xE000, 0x10000), *range(0x1D100, 0x1D200), 0xE0001, 0xE007F)
    ]
    with psycopg.connect(make_pod().reader_dsn) as connection:
        for characters in (Characters.WRITTEN, Characters.PLAIN):
            rows = connection.execute(
                "select point from unnest(%s::integer[]) as point where chr(point) ~ %s",
                (points, f"[{characters.value}]"),
            ).fetchall()
            limit = Text(name="it", longest=1, characters=characters)
            assert {point for (point,) in rows} == {point for point in points if limit.problem(chr(point))}


def test_an_amount_names_its_field(pod: CommandPod) -> None:
    command = AuthorizePayment(merchant_id=MERCHANT, order_id=str(uuid.uuid4()), amount_minor=10**17)
    with pytest.raises(InputError, match=r"amount_minor is 100,000,000,000,000,000; .* must be at most"):
        execute(pod, command, idempotency_key=key())


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("update oltp.merchants set name = repeat('x', 501)", "merchants_name_limit"),
        ("update oltp.merchants set shipping_fee_minor = 100000000000001", "merchants_currency_amount_limit"),
        ("update oltp.merchants set jurisdiction = 'G' || chr(8238) || 'B'", "merchants_jurisdiction_limit"),
        ("update oltp.merchant_tax_rates set rate_ppm = 10000001", "merchant_tax_rates_rate_ppm_limit"),
    ],
)
def test_the_database_keeps_the_limits_whoever_writes(make_pod: MakePod, statement: str, constraint: str) -> None:
    settings = make_pod()
    with build_command_pod(settings) as opened:
        register(opened)
    with psycopg.connect(settings.owner_dsn) as connection:
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            connection.execute(statement.encode())
        assert refused.value.diag.constraint_name == constraint


def test_a_location_holds_so_many_units_of_a_variant(pod: CommandPod) -> None:
    product = add_product(pod, "a")
    lines = [StockInput(variant_id=product.variants[0].variant_id, quantity=10**9)] * 1_001
    with pytest.raises(InputError, match="at most 1,000,000,000,000 units"):
        execute(pod, ReceiveStock(merchant_id=MERCHANT, location_id="main", lines=lines), idempotency_key=key())


def test_an_aggregate_is_no_larger_than_an_event_may_be(pod: CommandPod) -> None:
    titles = [
        VariantInput(variant_id=str(uuid.uuid4()), sku=f"S{number}", title="\U0001f600" * 500)
        for number in range(2_000)
    ]
    product = UpsertProduct(merchant_id=MERCHANT, product_id=str(uuid.uuid4()), title="large", variants=titles)
    with pytest.raises(InputError, match="at most 4,194,304"):
        execute(pod, product, idempotency_key=key())
