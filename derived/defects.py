"""Finding events that the warehouse cannot use, before its models read them: SQL over the lake's events.

Every rule that the warehouse's tests check for a single aggregate is checked here first. So one aggregate that breaks a
rule is left out by name (`derived/leaving_out.py`), and does not make a test of all aggregates fail.

Belongs here: the rules for one payload. Does not belong here: comparing an event with the previous one
(`derived/defective.py`), what is left out with it.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from contracts.events import STATE_TYPES
from contracts.events.upcasting import newest_sql
from contracts.money import micro_per_minor_sql
from derived import unexplained
from derived.lake_schema import EVENTS
from derived.payment_movements import RETURN_FEE, RETURNED, UNALLOCATED, movements_agree

WIDEST = 2**62 - 1
"""Limit of one account's amount in one aggregate, in micro-units: the difference of two versions still fits 64 bits."""
UNIT = f"({micro_per_minor_sql('state.currency', 'hugeint')})"
YEARS = "between timestamptz '0001-01-01 00:00:00+00' and timestamptz '9999-12-31 23:59:59.999999+00'"


class Defect(StrEnum):
    """What is wrong with an event; the first that applies, in this order."""

    UNREADABLE = "its payload cannot be read"
    OTHER_AGGREGATE = "its payload is of another aggregate, merchant or version"
    UNKNOWN_VALUE = "it has a value that is not known (a currency, status or kind)"
    OTHER_CURRENCY = "its currency is not that of the version before"
    TOO_LARGE = "an amount is larger than the warehouse can hold"
    MONEY = "its amounts do not agree with each other"
    TWICE = "there is another event of its version"
    SLIPPED = "its merchant had moved, and another pod has an event of its version or a later one"
    GAP = "the version before it is missing"
    REFUNDS = "what it says was given back is not what its refunds say"
    OTHER_ORDER = "its order or payment is not that of the version before"
    SHARED = "a line of it is another one's"
    LACKING = "it lacks a line, or a tax of a line, that the version before has"
    UNEXPLAINED = "it has other amounts than the version before, and no event says so"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules for an aggregate type's state, as SQL conditions on the struct `state`; null counts as broken."""

    known: str = "true"
    fits: str = "true"
    agrees: str = "true"
    amounts: str = "json_object()"
    """The aggregate's amounts in finance's reports: a JSON object, column of the daily report -> minor units."""
    taxed: str = "[]"
    """Where tax is booked, a list of texts: each line with each of its jurisdictions. Later versions must have all."""
    constant: str = unexplained.NO_CONSTANT
    """A hash of the amounts that no later event may change (`derived/unexplained.py`)."""
    parts: str = unexplained.NO_PARTS
    """Hashes of the amounts that only some events may change, as a list."""


def _list_in(name: str, kind: list[Any]) -> str:
    """Return SQL for a list field that was added to the schema later; null if the value is not a list."""
    return f"try(from_json_strict(added.{name}, '{json.dumps(kind)}'))"


def _fields(struct: type[msgspec.Struct], *, is_added: bool = False) -> dict[str, Any]:
    """Return the types of the fields of a state.

    A field with a default was added later, and earlier events do not have it; with `is_added` only such fields are
    returned, to be read as text or JSON.
    """
    hints = typing.get_type_hints(struct)
    found: dict[str, Any] = {}
    for one in msgspec.structs.fields(struct):
        if one.required != is_added:
            kind = payload_type(hints[one.name])
            found[one.name] = kind if not is_added else "JSON" if isinstance(kind, list) else "VARCHAR"
        elif is_added and typing.get_origin(hints[one.name]) is list:
            (element,) = typing.get_args(hints[one.name])
            if parts := _fields(element, is_added=True):
                found[one.name] = [parts]
    return found


def payload_type(hint: Any) -> Any:
    """Return the type of a field in DuckDB's JSON notation: a name, or for a list a list of one mapping."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    (kind,) = [option for option in options if option is not type(None)]
    if typing.get_origin(kind) is list:
        return [_fields(typing.get_args(kind)[0])]
    for base, name in ((bool, "BOOLEAN"), (int, "BIGINT"), (datetime, "TIMESTAMPTZ"), (str, "VARCHAR")):
        if issubclass(kind, base):
            return name
    raise TypeError(f"a payload field of type {kind} has no column type")


def _each(part: str, expression: str) -> str:
    return f"list_transform(state.{part}, lambda one, place: {expression})"


def _sum(part: str, expression: str) -> str:
    return f"coalesce(list_sum({_each(part, f'({expression})::HUGEINT')}), 0)"


def _all(part: str, condition: str) -> str:
    return f"coalesce(list_bool_and({_each(part, f'coalesce({condition}, false)')}), true)"


def _distinct(part: str, key: str) -> str:
    return f"len(list_distinct({_each(part, f'one.{key}')})) = len(state.{part})"


def _fits(*amounts_micro: str) -> str:
    return " and ".join(f"abs({amount}) <= {WIDEST}" for amount in amounts_micro)


def _lines_fit(*columns: str) -> str:
    return _fits(*(f"{_sum('lines', f'abs(one.{name}::HUGEINT)')} * {UNIT}" for name in columns))


def _values(state_type: type[msgspec.Struct], name: str, part: str | None = None) -> str:
    struct = state_type
    if part is not None:
        (struct,) = typing.get_args(typing.get_type_hints(state_type)[part])
    enum: type[StrEnum] = typing.get_type_hints(struct)[name]
    return ", ".join(f"'{value.value}'" for value in enum)


WITHDRAWN = "coalesce(try_cast(added.lines[place].withdrawn_quantity as BIGINT), 0)"
RELEASED = "coalesce(try_cast(added.released_minor as BIGINT), 0)"
DISPUTED = tuple(
    f"coalesce(try_cast(added.{name} as BIGINT), 0)"
    for name in ("disputed_minor", "charged_back_minor", "dispute_fee_minor")
)
ADJUSTED_TAX = "coalesce(try_cast(added.tax_minor as BIGINT), 0)"
ORDER, PAYMENT, REFUND, ADJUSTMENT, GIFT_CARD, RESERVATION, MOVEMENT = (
    STATE_TYPES[name]
    for name in ("order", "payment", "refund", "adjustment", "gift_card", "reservation", "stock_movement")
)
SHIPPING = "one.kind = 'shipping'"
NET_TAX = f"(one.tax_minor::HUGEINT - one.cancelled_tax_minor) * {UNIT}"
REVENUE = f"""(one.amount_minor::HUGEINT - if(one.is_tax_inclusive, one.tax_minor, 0) - one.cancelled_minor
    + one.cancelled_tax_minor) * {UNIT} + abs(one.rounding_micro::HUGEINT)"""


def _taxes_agree(state_type: type[msgspec.Struct], line_id: str, *columns: str) -> str:
    """Return a condition: the taxes of each line that has several add up to the line's tax, and none is named twice."""
    taxes = _taxes(state_type, "line_taxes")
    mine = f"list_filter({taxes}, lambda tax: tax.{line_id} = one.{line_id})"
    sums = " and ".join(
        f"list_sum(list_transform({mine}, lambda tax: tax.{name}::HUGEINT)) = one.{name}" for name in columns
    )
    named = f"list_transform({taxes}, lambda tax: tax.{line_id} || ' ' || tax.jurisdiction)"
    return f"{_all('lines', f'(len({mine}) = 0 or ({sums}))')} and len(list_distinct({named})) = len({taxes})"


def taxed_lines(lines: str, taxes: str, line_id: str) -> str:
    """Return SQL for the places where tax is booked: each line with each jurisdiction that taxes it."""
    mine = f"list_filter({taxes}, lambda tax: tax.{line_id} = one.{line_id})"
    own = f"[one.{line_id} || ' ' || one.jurisdiction]"
    each = f"list_transform({mine}, lambda tax: tax.{line_id} || ' ' || tax.jurisdiction)"
    return f"flatten(list_transform({lines}, lambda one: if(len({mine}) = 0, {own}, {each})))"


def taxed_places(state: str, taxes: str) -> str:
    """Return the same for an adjustment, which has no lines: its jurisdictions."""
    each = f"list_transform({taxes}, lambda tax: tax.jurisdiction)"
    return f"if({state}.tax_category is null, [], if(len({taxes}) > 0, {each}, [{state}.jurisdiction]))"


def _taxes(state_type: type[msgspec.Struct], name: str) -> str:
    return f"coalesce({_list_in(name, payload_type(typing.get_type_hints(state_type)[name]))}, [])"


ORDER_RULES = Rules(
    known=f"{UNIT} is not null and state.status in ({_values(ORDER, 'status')}) "
    f"and {_all('lines', 'one.kind in (' + _values(ORDER, 'kind', 'lines') + ')')}",
    fits=_lines_fit("amount_minor", "total_minor", "discount_minor", "tax_minor", "cancelled_minor")
    + f" and {_lines_fit('cancelled_tax_minor')} and {_fits(_sum('lines', f'abs({REVENUE}) + abs({NET_TAX})'))}",
    agrees=" and ".join(
        (
            "len(state.lines) > 0",
            f"state.lines_minor = {_sum('lines', f'if({SHIPPING}, 0, one.amount_minor)')}",
            f"state.shipping_minor = {_sum('lines', f'if({SHIPPING}, one.amount_minor, 0)')}",
            *(
                f"state.{name} = {_sum('lines', f'one.{name}')}"
                for name in (
                    "discount_minor",
                    "tax_minor",
                    "total_minor",
                    "cancelled_minor",
                    "cancelled_tax_minor",
                    "rounding_micro",
                )
            ),
            f"state.added_tax_minor = {_sum('lines', 'if(one.is_tax_inclusive, 0, one.tax_minor)')}",
            "state.cancelled_minor between 0 and state.total_minor",
            "(state.status = 'cancelled') = "
            f"({_sum('lines', f'one.quantity - one.cancelled_quantity - {WITHDRAWN}')} = 0)",
            _all(
                "lines",
                f"one.quantity::HUGEINT * one.unit_price_micro = one.amount_minor * {UNIT} + one.rounding_micro "
                "and one.amount_minor - one.discount_minor + if(one.is_tax_inclusive, 0, one.tax_minor) "
                "= one.total_minor and one.taxable_minor + one.tax_minor = one.total_minor "
                f"and one.cancelled_quantity + one.fulfilled_quantity + {WITHDRAWN} between 0 and one.quantity "
                "and (one.cancelled_quantity < one.quantity or one.cancelled_minor = one.total_minor)",
            ),
            _distinct("lines", "order_line_id"),
            _taxes_agree(ORDER, "order_line_id", "tax_minor", "cancelled_tax_minor"),
        )
    ),
    amounts="json_object('placed_minor', state.total_minor, 'cancelled_minor', state.cancelled_minor)",
    taxed=taxed_lines("state.lines", _taxes(ORDER, "line_taxes"), "order_line_id"),
    constant=unexplained.order_constant("state", _taxes(ORDER, "line_taxes")),
    parts=unexplained.order_parts("state"),
)

MOVEMENTS = _taxes(PAYMENT, "movements")
ADJUSTED_TAXES = _taxes(ADJUSTMENT, "taxes")
ADJUSTED_PLACES = taxed_places("added", ADJUSTED_TAXES)

RULES: Mapping[str, Rules] = {
    "order": ORDER_RULES,
    "payment": Rules(
        known=f"{UNIT} is not null and state.status in ({_values(PAYMENT, 'status')})",
        fits=_fits(
            f"state.authorized_minor * {UNIT}",
            f"(state.captured_minor::HUGEINT + {' + '.join(DISPUTED)}) * {UNIT}",
            f"({UNALLOCATED}::HUGEINT + {RETURN_FEE}) * {UNIT}",
        ),
        agrees="0 <= state.refunded_minor and state.refunded_minor <= state.captured_minor "
        f"and state.captured_minor + {RELEASED} <= state.authorized_minor "
        f"and state.captured_minor = {_sum('captures', 'one.amount_minor')} "
        f"and {_distinct('captures', 'payment_capture_id')} "
        f"and least({', '.join(DISPUTED)}) >= 0 and {DISPUTED[0]} + {DISPUTED[1]} + {RETURNED} "
        f"<= state.captured_minor and {movements_agree(MOVEMENTS)}",
        amounts=f"json_object('captured_minor', state.captured_minor - {RETURNED}, "
        "'refunded_minor', state.refunded_minor)",
        constant=unexplained.payment_constant("state"),
        parts=unexplained.payment_parts("state", RELEASED, DISPUTED, MOVEMENTS),
    ),
    "refund": Rules(
        known=f"{UNIT} is not null and state.status in ({_values(REFUND, 'status')})",
        fits=_fits(f"state.amount_minor * {UNIT}"),
        agrees=f"len(state.lines) > 0 and state.amount_minor = {_sum('lines', 'one.amount_minor')} "
        f"and state.tax_minor = {_sum('lines', 'one.tax_minor')} "
        f"and {_all('lines', 'one.tax_minor between 0 and one.amount_minor')} "
        f"and {_distinct('lines', 'refund_line_id')} and {_taxes_agree(REFUND, 'refund_line_id', 'tax_minor')}",
        amounts="json_object('refunded_minor', if(state.status = 'completed', state.amount_minor, 0))",
        taxed=taxed_lines("state.lines", _taxes(REFUND, "line_taxes"), "refund_line_id"),
        constant=unexplained.refund_constant("state", _taxes(REFUND, "line_taxes")),
    ),
    "adjustment": Rules(
        known=f"{UNIT} is not null and state.kind in ({_values(ADJUSTMENT, 'kind')})",
        fits=_fits(
            f"abs(state.amount_minor::HUGEINT) * {UNIT} + abs({ADJUSTED_TAX}) * {UNIT} "
            "+ abs(state.rounding_micro::HUGEINT)"
        ),
        agrees=f"({ADJUSTED_TAX} = 0 or added.tax_category is not null) and (len({ADJUSTED_TAXES}) = 0 "
        f"or list_sum(list_transform({ADJUSTED_TAXES}, lambda tax: tax.tax_minor::HUGEINT)) = {ADJUSTED_TAX}) "
        f"and len(list_distinct({ADJUSTED_PLACES})) = len({ADJUSTED_PLACES})",
        amounts="json_object('adjusted_minor', state.amount_minor)",
        taxed=ADJUSTED_PLACES,
        constant=unexplained.adjustment_constant("state", ADJUSTED_TAX, ADJUSTED_TAXES),
    ),
    "gift_card": Rules(
        known=f"{UNIT} is not null and state.status in ({_values(GIFT_CARD, 'status')}) "
        f"and state.funding in ({_values(GIFT_CARD, 'funding')})",
        fits=_fits(f"(state.issued_minor::HUGEINT + state.credited_minor) * {UNIT}"),
        agrees="state.issued_minor > 0 and least(state.credited_minor, state.redeemed_minor, state.expired_minor, "
        "state.balance_minor) >= 0 and state.balance_minor = state.issued_minor::HUGEINT + state.credited_minor "
        "- state.redeemed_minor - state.expired_minor",
        constant=unexplained.gift_card_constant("state"),
        parts=unexplained.gift_card_parts("state"),
    ),
    "reservation": Rules(
        known=f"state.status in ({_values(RESERVATION, 'status')})",
        agrees=_all(
            "lines",
            "one.quantity - one.consumed_quantity - one.released_quantity >= 0 and "
            "(one.quantity - one.consumed_quantity - one.released_quantity = 0 or state.status = 'held')",
        ),
    ),
    "stock_movement": Rules(known=f"state.kind in ({_values(MOVEMENT, 'kind')})", agrees="state.quantity <> 0"),
}
"""Aggregate types that are not listed must only be readable, and name their own aggregate."""


SAID = (
    "event_type", "merchant_id", "aggregate_type", "aggregate_id", "aggregate_version", "occurred_at", "recorded_at",
    "payload",
)  # fmt: skip
"""Columns with the event's content; the other columns describe how it was transported."""


def unique_events(condition: str) -> str:
    """Return a query for the raw events that meet a condition, each once; copies with other content are all returned.

    Nobody can decide which of such copies is the event, and models would take one at random. As two events of one
    version, under one id, they are left out.
    """
    said = ", ".join(SAID)
    return f"""select * from {EVENTS} where ({condition})
               qualify row_number() over (partition by pod, cut, event_id, hash({said})) = 1"""


def judged(aggregate_type: str, events: str) -> str:
    """Return a query for the events of one type among `events`: a table like the raw events, or a query in brackets.

    Columns: cut, event_id, event_type, merchant_id, aggregate_type, aggregate_id, version, position, defect (null: the
    payload alone shows none), order_id, payment_id, currency, amounts (JSON text; null: not readable), taxed, constant
    and parts (see `Rules`).
    """
    state_type = STATE_TYPES[aggregate_type]
    rules = RULES.get(aggregate_type, Rules())
    names = set(state_type.__struct_fields__)
    later = _fields(state_type, is_added=True)
    added = f"try(from_json(newest, '{json.dumps({'state': later})}')).state" if later else "null"
    return f"""
        select cut, event_id, event_type, merchant_id, aggregate_type, aggregate_id, aggregate_version as version,
               "position",
               -- Arithmetic on values that nobody expected must not stop the query either: null is not kept.
               case
                   when state is null or ({" and ".join(_readable(state_type))}) is not true
                       then '{Defect.UNREADABLE.name}'
                   when (
                       state.merchant_id = merchant_id and state.version = aggregate_version
                       and state.{state_type.ID_FIELD} = aggregate_id
                   ) is not true then '{Defect.OTHER_AGGREGATE.name}'
                   when try({rules.known}) is not true then '{Defect.UNKNOWN_VALUE.name}'
                   when try({rules.fits}) is not true then '{Defect.TOO_LARGE.name}'
                   when try({rules.agrees}) is not true then '{Defect.MONEY.name}'
               end as defect,
               {_or_null("order_id", names)} as order_id, {_or_null("payment_id", names)} as payment_id,
               {_or_null("currency", names)} as currency, if(state is null, null, {rules.amounts}::VARCHAR) as amounts,
               if(state is null, null, try({rules.taxed})::VARCHAR[]) as taxed,
               if(state is null, null, try({rules.constant})) as constant,
               if(state is null, null, try({rules.parts})) as parts
        from (
            select *, try(from_json_strict(newest, '{json.dumps({"state": _fields(state_type)})}')).state as state,
                   {added} as added
            from (
                select *, {newest_sql(aggregate_type)} as newest
                from {events} where aggregate_type = '{aggregate_type}'
            )
        )"""


def _or_null(name: str, names: set[str]) -> str:
    # If the whole payload is not readable, a pattern may still find the order it belongs to.
    if name not in names:
        return "null::VARCHAR"
    pattern = f'"{name}" ?: ?"([^"]+)"'
    return f"coalesce(state.{name}, nullif(regexp_extract(payload, '{pattern}', 1), ''))"


def _readable(struct: type[msgspec.Struct], part: str | None = None) -> Iterator[str]:
    """Yield conditions: each required value exists and can be booked, and each value of a later field has its type."""
    here, added = (f"state.{part}", f"added.{part}[place]") if part else ("state", "added")
    here = "one" if part else here
    hints = typing.get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        kind = payload_type(hints[field.name])
        name = f"{here}.{field.name}"
        if not field.required:
            if isinstance(kind, list):
                (element,) = typing.get_args(hints[field.name])
                each = " and ".join(_readable(element, field.name)) or "true"
                items = f"list_transform({_list_in(field.name, kind)}, lambda one, place: coalesce({each}, false))"
                yield f"({added}.{field.name} is null or coalesce(list_bool_and({items}), len({items}) = 0))"
            elif kind != "VARCHAR":
                yield f"({added}.{field.name} is null or try_cast({added}.{field.name} as {kind}) is not null)"
            continue
        is_optional = type(None) in typing.get_args(hints[field.name])
        if kind == "TIMESTAMPTZ":
            yield f"coalesce({name} {YEARS}, {'true' if is_optional else 'false'})"
        elif not is_optional:
            yield f"{name} is not null"
        if isinstance(kind, list):
            (element,) = typing.get_args(hints[field.name])
            yield _all(field.name, " and ".join(_readable(element, field.name)))
