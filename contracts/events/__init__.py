"""The events that leave a pod: envelope, one module of payloads per aggregate, and the registry of them all."""

from __future__ import annotations

from enum import StrEnum

from contracts.events.adjustment import AdjustmentEvent, AdjustmentState
from contracts.events.common import AggregateState
from contracts.events.entitlement import (
    CustomerEntitlementEvent,
    CustomerEntitlementState,
    MerchantEntitlementEvent,
    MerchantEntitlementState,
)
from contracts.events.fulfillment import FulfillmentEvent, FulfillmentState
from contracts.events.gift_card import GiftCardEvent, GiftCardState
from contracts.events.merchant import MerchantEvent, MerchantState
from contracts.events.order import OrderEvent, OrderState
from contracts.events.payment import PaymentEvent, PaymentState
from contracts.events.product import ProductEvent, ProductState
from contracts.events.refund import RefundEvent, RefundState
from contracts.events.stock import ReservationEvent, ReservationState, StockMovementEvent, StockMovementState
from contracts.struct_types import make_known

AGGREGATES: dict[type[AggregateState], type[StrEnum]] = {
    MerchantState: MerchantEvent,
    MerchantEntitlementState: MerchantEntitlementEvent,
    ProductState: ProductEvent,
    StockMovementState: StockMovementEvent,
    ReservationState: ReservationEvent,
    OrderState: OrderEvent,
    PaymentState: PaymentEvent,
    RefundState: RefundEvent,
    FulfillmentState: FulfillmentEvent,
    CustomerEntitlementState: CustomerEntitlementEvent,
    AdjustmentState: AdjustmentEvent,
    GiftCardState: GiftCardEvent,
}
"""State type of an aggregate -> the events that the aggregate can have."""

STATE_TYPES = {state.AGGREGATE_TYPE: state for state in AGGREGATES}
"""State type by aggregate type."""

make_known(*AGGREGATES)
