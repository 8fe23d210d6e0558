"""Amounts of an aggregate that no later event, or only some, may change: as one hash, and as a list of hashes.

Somebody may change the amounts of an order or a payment without a command, so that all sums still agree. The event of
the next ordinary command then contains these amounts as if they had always been so. Therefore each version's amounts
are compared with the previous version's. Belongs here: which amounts, and which events may change them. Does not belong
here: what follows from it (`derived/defective.py`), amounts that do not agree with each other (`derived/defects.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

ADDING = (
    "payment_captured",
    "payment_released",
    "payment_expired",
    "payment_returned",
    "payment_unallocated",
    "payment_given_back",
)
"""Event types that add one part to what is booked, and do not change the other parts."""
MOVING = (
    "order_cancelled",
    "order_units_withdrawn",
    "payment_dispute_opened",
    "payment_dispute_won",
    "payment_dispute_lost",
    "gift_card_redeemed",
    "gift_card_credited",
    "gift_card_expired",
)
"""The only event types that change what is cancelled of an order's lines, what disputes have of a payment, or what a
gift card moved."""

NO_CONSTANT = "null::UBIGINT"
NO_PARTS = "[]::UBIGINT[]"


def is_unexplained(
    event_type: str, before: tuple[int | None, Sequence[int] | None], now: tuple[int | None, Sequence[int] | None]
) -> bool:
    """Return whether amounts differ from the previous version although the event may not change them.

    Each side: (hash of what never changes, hashes of the parts that some events change); None: not known.
    """
    if None not in (before[0], now[0]) and before[0] != now[0]:
        return True
    if before[1] is None or now[1] is None or event_type in MOVING:
        return False
    was, standing = Counter(before[1]), Counter(now[1])
    return bool(was - standing) or (standing - was).total() > (1 if event_type in ADDING else 0)


def unexplained_sql(constants: tuple[str, str], parts: tuple[str, str], event_type: str) -> str:
    """Return the same as an SQL condition; the pairs name columns (before, now). Parts are sorted lists."""
    adding, moving = (", ".join(f"'{name}'" for name in names) for names in (ADDING, MOVING))
    was, now = parts
    without_one = f"list_transform({now}, lambda part, place: {now}[:place - 1] || {now}[place + 1:])"
    return f"""coalesce({constants[0]} <> {constants[1]}, false) or case
        when {event_type} in ({moving}) or {was} is null then false
        when {event_type} in ({adding}) then {was} <> {now} and not list_contains({without_one}, {was})
        else {was} <> {now} end"""


def order_constant(state: str, taxes: str) -> str:
    """Return SQL for a hash of what an order was placed for: its lines with prices and taxes, and its time."""
    names = (
        "order_line_id", "kind", "quantity", "unit_price_micro", "amount_minor", "rounding_micro", "discount_minor",
        "jurisdiction", "tax_category", "rate_ppm", "is_tax_inclusive", "taxable_minor", "tax_minor", "total_minor",
    )  # fmt: skip
    lines = _texts(f"{state}.lines", *names)
    each = _texts(taxes, "order_line_id", "jurisdiction", "rate_ppm", "tax_minor")
    return _number(lines, each, f"epoch_us({state}.placed_at)")


def order_parts(state: str) -> str:
    """Return SQL for hashes of what is cancelled of an order, one per line."""
    cancelled = f"list_filter({state}.lines, lambda one: one.cancelled_quantity <> 0 or one.cancelled_minor <> 0)"
    names = ("order_line_id", "cancelled_quantity", "cancelled_minor", "cancelled_tax_minor")
    return _numbers(_texts(cancelled, *names))


def payment_constant(state: str) -> str:
    """Return SQL for a hash of what a payment was authorized for."""
    return f"hash({state}.authorized_minor, epoch_us({state}.authorized_at))"


def payment_parts(state: str, released: str, disputes: Sequence[str], movements: str) -> str:
    """Return SQL for hashes of a payment's captures and other movements, of its released amount and of what disputes
    have of it.
    """
    captures = (
        f"list_transform({state}.captures, lambda one: "
        "concat_ws(' ', one.payment_capture_id, one.amount_minor, epoch_us(one.captured_at)))"
    )
    others = [f"if({released} = 0, [], ['released ' || {released}])"]
    others += [f"if({sum_} = 0, [], ['dispute {place} ' || {sum_}])" for place, sum_ in enumerate(disputes)]
    others.append(
        f"list_transform({movements}, lambda one: concat_ws("
        "' ', one.payment_movement_id, one.kind, one.amount_minor, one.fee_minor, epoch_us(one.moved_at)))"
    )
    texts = captures
    for other in others:
        texts = f"list_concat({texts}, {other})"
    return _numbers(texts)


def refund_constant(state: str, taxes: str) -> str:
    """Return SQL for a hash of what a refund gives back, with its lines."""
    names = (
        "refund_line_id", "order_line_id", "quantity", "amount_minor", "tax_minor", "jurisdiction", "tax_category",
    )  # fmt: skip
    each = _texts(taxes, "refund_line_id", "jurisdiction", "tax_minor")
    return _number(_texts(f"{state}.lines", *names), each)


def adjustment_constant(state: str, tax: str, taxes: str) -> str:
    """Return SQL for a hash of what an adjustment books."""
    each = _texts(taxes, "jurisdiction", "rate_ppm", "tax_minor")
    own = f"{state}.kind, {state}.amount_minor, {state}.rounding_micro, epoch_us({state}.adjusted_at)"
    return _number(each, f"concat_ws(' ', {own}, {tax})")


def gift_card_constant(state: str) -> str:
    """Return an expression for what a gift card was issued with."""
    return f"hash({state}.funding, {state}.issued_minor, epoch_us({state}.issued_at))"


def gift_card_parts(state: str) -> str:
    """Return an expression for what was moved of a gift card since."""
    names = ("credited_minor", "redeemed_minor", "expired_minor")
    texts = ", ".join(f"'{name} ' || {state}.{name}" for name in names)
    return _numbers(f"[{texts}]")


def _texts(parts: str, *names: str) -> str:
    each = ", ".join(f"one.{name}" for name in names)
    return f"list_sort(list_transform({parts}, lambda one: concat_ws(' ', {each})))"


def _number(*values: str) -> str:
    return f"hash({', '.join(values)})"


def _numbers(texts: str) -> str:
    return f"list_sort(list_transform({texts}, lambda text: hash(text)))"
