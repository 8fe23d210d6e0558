"""The events of many orders, in batches: the input of `bench/derived.py`.

Belongs here: values. Does not belong here: measuring.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pyarrow as pa

from contracts.events.common import AggregateState, encode_payload
from contracts.events.order import LineKind, OrderLine, OrderState, OrderStatus
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.stock import ReservationLine, ReservationState, ReservationStatus
from contracts.ids import aggregate_key, partition_of, uuid7
from streams import codec

PARTITIONS = 4
CUT_EVENTS = 50_000
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def batches_of(orders: int, lines: int) -> Iterator[pa.RecordBatch]:
    """Yield the events of `orders` orders in batches of about CUT_EVENTS, with the stored columns and `partition`."""
    schema = codec.STORED_SCHEMA.append(pa.field("partition", pa.int32()))
    rows: list[dict[str, object]] = []
    position = 0
    for number in range(orders):
        for state in _journey(number, lines):
            position += 1
            rows.append(_event(state, position))
        if len(rows) >= CUT_EVENTS or number == orders - 1:
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows = []


def _event(state: AggregateState, position: int) -> dict[str, object]:
    key = aggregate_key(state.merchant_id, state.AGGREGATE_TYPE, state.aggregate_id)
    return {
        "position": position,
        "event_id": str(uuid7()),
        "merchant_id": state.merchant_id,
        "aggregate_type": state.AGGREGATE_TYPE,
        "aggregate_id": state.aggregate_id,
        "aggregate_version": state.version,
        "event_type": "changed",
        "schema_version": 1,
        "occurred_at": NOW,
        "recorded_at": NOW,
        "causation_id": None,
        "correlation_id": str(uuid7()),
        "traceparent": None,
        "payload": encode_payload(None, state),
        "directory_epoch": 1,
        "partition": partition_of(key, PARTITIONS),
    }


def _journey(number: int, lines: int) -> Iterator[AggregateState]:
    """Yield the states of one order: reserved, placed, authorized, captured, shipped, consumed, half refunded."""
    order = _order(number, lines)
    held = _reservation(order)
    paid = _payment(order)
    replace = msgspec.structs.replace
    yield from (held, order, paid)
    yield replace(paid, version=2, status=PaymentStatus.CAPTURED, captured_minor=paid.authorized_minor)
    shipped = [replace(line, fulfilled_quantity=line.quantity) for line in order.lines]
    yield replace(order, version=2, status=OrderStatus.FULFILLED, lines=shipped)
    gone = [replace(line, consumed_quantity=line.quantity) for line in held.lines]
    yield replace(held, version=2, status=ReservationStatus.CONSUMED, lines=gone)
    yield replace(paid, version=3, captured_minor=paid.authorized_minor, refunded_minor=paid.authorized_minor // 2)


def _order(number: int, lines: int) -> OrderState:
    return OrderState(
        merchant_id=f"merchant-{number % 40}",
        version=1,
        order_id=str(uuid7()),
        order_number=str(number),
        customer_id=f"customer-{number % 1_000}",
        currency="GBP",
        status=OrderStatus.PLACED,
        source="generator",
        reservation_id=str(uuid7()),
        lines_minor=1_200 * lines,
        shipping_minor=0,
        discount_minor=0,
        added_tax_minor=0,
        tax_minor=200 * lines,
        rounding_micro=0,
        total_minor=1_200 * lines,
        cancelled_minor=0,
        cancelled_tax_minor=0,
        placed_at=NOW,
        lines=[_line(line) for line in range(1, lines + 1)],
        discounts=[],
    )


def _line(number: int) -> OrderLine:
    return OrderLine(
        order_line_id=str(uuid7()),
        line_number=number,
        kind=LineKind.GOODS,
        variant_id=str(uuid7()),
        sku=f"SKU-{number}",
        title=f"Thing {number}",
        quantity=3,
        unit_price_micro=4_000_000,
        price_source="catalog",
        price_reason=None,
        amount_minor=1_200,
        rounding_micro=0,
        discount_minor=0,
        jurisdiction="GB",
        tax_category="standard",
        rate_ppm=200_000,
        is_tax_inclusive=True,
        taxable_minor=1_000,
        tax_minor=200,
        total_minor=1_200,
        cancelled_quantity=0,
        cancelled_minor=0,
        cancelled_tax_minor=0,
        fulfilled_quantity=0,
    )


def _reservation(order: OrderState) -> ReservationState:
    assert order.reservation_id is not None
    return ReservationState(
        merchant_id=order.merchant_id,
        version=1,
        reservation_id=order.reservation_id,
        order_id=order.order_id,
        status=ReservationStatus.HELD,
        expires_at=None,
        lines=[
            ReservationLine(
                reservation_line_id=str(uuid7()),
                variant_id=str(line.variant_id),
                location_id="main",
                quantity=line.quantity,
                consumed_quantity=0,
                released_quantity=0,
            )
            for line in order.lines
        ],
    )


def _payment(order: OrderState) -> PaymentState:
    return PaymentState(
        merchant_id=order.merchant_id,
        version=1,
        payment_id=str(uuid7()),
        order_id=order.order_id,
        customer_id=order.customer_id,
        currency=order.currency,
        status=PaymentStatus.AUTHORIZED,
        provider="embedded",
        provider_reference="1",
        authorized_minor=order.total_minor,
        captured_minor=0,
        refunded_minor=0,
        authorized_at=NOW,
        captures=[],
    )
