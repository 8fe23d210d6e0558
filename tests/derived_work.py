"""Steps made by hand, for tests of the derived stores: events of real aggregates without a pod or a log.

Belongs here: building `Work` values. Does not belong here: assertions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import pyarrow as pa

from contracts.events.common import AggregateState, encode_payload
from contracts.events.entitlement import CustomerEntitlementState, Grant
from contracts.events.order import LineKind, OrderLine, OrderState, OrderStatus
from contracts.events.payment import PaymentState, PaymentStatus
from contracts.events.refund import RefundState, RefundStatus
from contracts.events.stock import ReservationLine, ReservationState, ReservationStatus
from contracts.ids import aggregate_key, partition_of, uuid7
from streams.codec import EVENT_SCHEMA
from streams.projection import START, Entry, ParkedEvent, Position, Work

EPOCH = "7401:16384:1"
PARTITIONS = 4
NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def order_line(number: int = 1, **changes: object) -> OrderLine:
    """Return a line of 3 units at 4.00, tax included."""
    values: dict[str, object] = {
        "order_line_id": str(uuid7()),
        "line_number": number,
        "kind": LineKind.GOODS,
        "variant_id": f"variant-{number}",
        "sku": f"SKU-{number}",
        "title": f"Thing {number}",
        "quantity": 3,
        "unit_price_micro": 4_000_000,
        "price_source": "catalog",
        "price_reason": None,
        "amount_minor": 1_200,
        "rounding_micro": 0,
        "discount_minor": 0,
        "jurisdiction": "GB",
        "tax_category": "standard",
        "rate_ppm": 200_000,
        "is_tax_inclusive": True,
        "taxable_minor": 1_000,
        "tax_minor": 200,
        "total_minor": 1_200,
        "cancelled_quantity": 0,
        "cancelled_minor": 0,
        "cancelled_tax_minor": 0,
        "fulfilled_quantity": 0,
    }
    return OrderLine(**(values | changes))  # type: ignore[arg-type]


def order(lines: int = 1, **changes: object) -> OrderState:
    """Return a placed order of customer c1 at merchant m1."""
    built = [order_line(number) for number in range(1, lines + 1)]
    values: dict[str, object] = {
        "merchant_id": "m1",
        "version": 1,
        "order_id": str(uuid7()),
        "order_number": "1001",
        "customer_id": "c1",
        "currency": "GBP",
        "status": OrderStatus.PLACED,
        "source": "storefront",
        "reservation_id": None,
        "lines_minor": 1_200 * lines,
        "shipping_minor": 0,
        "discount_minor": 0,
        "added_tax_minor": 0,
        "tax_minor": 200 * lines,
        "rounding_micro": 0,
        "total_minor": 1_200 * lines,
        "cancelled_minor": 0,
        "cancelled_tax_minor": 0,
        "placed_at": NOON,
        "lines": built,
        "discounts": [],
    }
    return OrderState(**(values | changes))  # type: ignore[arg-type]


def changed(state: OrderState, **changes: object) -> OrderState:
    """Return the next version of an order."""
    return msgspec.structs.replace(state, version=state.version + 1, **changes)


def payment(of: OrderState, **changes: object) -> PaymentState:
    """Return the captured payment of an order."""
    values: dict[str, object] = {
        "merchant_id": of.merchant_id,
        "version": 1,
        "payment_id": str(uuid7()),
        "order_id": of.order_id,
        "customer_id": of.customer_id,
        "currency": of.currency,
        "status": PaymentStatus.CAPTURED,
        "provider": "embedded",
        "provider_reference": "p-1",
        "authorized_minor": of.total_minor,
        "captured_minor": of.total_minor,
        "refunded_minor": 0,
        "authorized_at": NOON,
        "captures": [],
    }
    return PaymentState(**(values | changes))  # type: ignore[arg-type]


def refund(of: PaymentState, amount_minor: int = 400, **changes: object) -> RefundState:
    """Return a requested refund on a payment."""
    values: dict[str, object] = {
        "merchant_id": of.merchant_id,
        "version": 1,
        "refund_id": str(uuid7()),
        "order_id": of.order_id,
        "payment_id": of.payment_id,
        "customer_id": of.customer_id,
        "currency": of.currency,
        "status": RefundStatus.REQUESTED,
        "reason": "broken",
        "external_reference": None,
        "amount_minor": amount_minor,
        "tax_minor": 67,
        "provider_reference": None,
        "failure_reason": None,
        "requested_at": NOON,
        "completed_at": None,
        "lines": [],
    }
    return RefundState(**(values | changes))  # type: ignore[arg-type]


def entitlement(grants: Sequence[Grant] = (), **changes: object) -> CustomerEntitlementState:
    """Return customer c1's entitlement to the feature ``returns``."""
    values: dict[str, object] = {
        "merchant_id": "m1",
        "version": 1,
        "entitlement_id": str(uuid7()),
        "customer_id": "c1",
        "feature": "returns",
        "effective_level": max((grant.level for grant in grants), default=0),
        "effective_grant_id": grants[0].grant_id if grants else None,
        "grants": list(grants),
    }
    return CustomerEntitlementState(**(values | changes))  # type: ignore[arg-type]


def reservation(of: OrderState, location_id: str = "london", **changes: object) -> ReservationState:
    """Return the reservation of all goods of an order."""
    values: dict[str, object] = {
        "merchant_id": of.merchant_id,
        "version": 1,
        "reservation_id": of.reservation_id or str(uuid7()),
        "order_id": of.order_id,
        "status": ReservationStatus.HELD,
        "expires_at": None,
        "lines": [
            ReservationLine(
                reservation_line_id=str(uuid7()),
                variant_id=line.variant_id,
                location_id=location_id,
                quantity=line.quantity,
                consumed_quantity=0,
                released_quantity=0,
            )
            for line in of.lines
            if line.variant_id is not None
        ],
    }
    return ReservationState(**(values | changes))  # type: ignore[arg-type]


def key_of(state: AggregateState) -> str:
    """Return the aggregate key of a state."""
    return aggregate_key(state.merchant_id, state.AGGREGATE_TYPE, state.aggregate_id)


@dataclass
class FakePod:
    """Gives cuts their events: every `cut(...)` is the next cut, split by partition and chunk as a relay would."""

    pod: str = "pod1"
    epoch: str = EPOCH
    partitions: int = PARTITIONS
    chunk_rows: int = 10_000
    cut_number: int = 0
    outbox_position: int = 0
    events: list[dict[str, object]] = field(default_factory=list)
    directory_epoch: int = 1
    """Of the merchant's residence here."""

    def event(self, state: AggregateState, *, payload: str | None = None, **changes: object) -> dict[str, object]:
        """Return the next event of the outbox: `state` after a change."""
        self.outbox_position += 1
        values: dict[str, object] = {
            "pod": self.pod,
            "epoch": self.epoch,
            "cut": self.cut_number,
            "partition": partition_of(key_of(state), self.partitions),
            "position": self.outbox_position,
            "event_id": str(uuid7()),
            "merchant_id": state.merchant_id,
            "aggregate_type": state.AGGREGATE_TYPE,
            "aggregate_id": state.aggregate_id,
            "aggregate_version": state.version,
            "event_type": "order_placed",
            "schema_version": 1,
            "occurred_at": NOON,
            "recorded_at": self.registered_at,
            "causation_id": None,
            "correlation_id": str(uuid7()),
            "traceparent": None,
            "payload": encode_payload(None, state) if payload is None else payload,
            "directory_epoch": self.directory_epoch,
        }
        return values | changes

    @property
    def registered_at(self) -> datetime:
        """Return when the present cut was registered: one minute after the one before."""
        return NOON + timedelta(minutes=self.cut_number)

    def cut(self, *states: AggregateState) -> list[Entry]:
        """Take the next cut, with one event per state; return its entries."""
        self.cut_number += 1
        return self.entries([self.event(state) for state in states])

    def entries(self, events: Iterable[Mapping[str, object]]) -> list[Entry]:
        """Return the entries of the present cut for these events."""
        kept = [dict(event) for event in events]
        self.events.extend(kept)
        by_partition: dict[int, list[dict[str, object]]] = defaultdict(list)
        for event in kept:
            by_partition[int(str(event["partition"]))].append(event)
        return [
            Entry(
                pod=self.pod,
                epoch=self.epoch,
                partition=partition,
                cut=self.cut_number,
                chunk=start // self.chunk_rows,
                events=pa.Table.from_pylist(rows[start : start + self.chunk_rows], schema=EVENT_SCHEMA),
            )
            for partition, rows in sorted(by_partition.items())
            for start in range(0, len(rows), self.chunk_rows)
        ]

    def step(self, entries: Sequence[Entry], *, since: int = 0, **changes: object) -> Work:
        """Return the step that takes all partitions from cut `since` to the present cut with these entries."""
        before = Position(cut=since, chunk=0) if since else START
        values: dict[str, object] = {
            "pod": self.pod,
            "epoch": self.epoch,
            "entries": list(entries),
            "expected": dict.fromkeys(range(self.partitions), before),
            "positions": dict.fromkeys(range(self.partitions), Position(cut=self.cut_number, chunk=0)),
            "data_at": self.registered_at,
        }
        return Work(**(values | changes))  # type: ignore[arg-type]


def parked(event: Mapping[str, object], error: str = "cannot be read") -> ParkedEvent:
    """Return an event as a parked one."""
    return ParkedEvent(
        aggregate_key=aggregate_key(
            str(event["merchant_id"]), str(event["aggregate_type"]), str(event["aggregate_id"])
        ),
        event_id=str(event["event_id"]),
        cut=int(str(event["cut"])),
        position=int(str(event["position"])),
        event=event,
        error=error,
        parked_at=NOON,
    )


def twice_at_once(work: Callable[[], None]) -> None:
    """Run this in two threads; raise what either raises."""
    with ThreadPoolExecutor(2) as threads:
        for running in [threads.submit(work) for _ in range(2)]:
            running.result()
