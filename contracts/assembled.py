"""Assembled answers: what such an answer is made of, by tags, and which events touch which tags.

Belongs here: the tags, and the one table that says of each type of event what it touches. Readers of OLTP name the tags
of what they read, the consumer of the cache names those that an event touches; both must mean the same. Does not belong
here: how an answer is put together (`oltp/`), or kept (`derived/answer_cache/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contracts.events.adjustment import AdjustmentEvent
from contracts.events.entitlement import CustomerEntitlementEvent, MerchantEntitlementEvent
from contracts.events.fulfillment import FulfillmentEvent
from contracts.events.gift_card import GiftCardEvent
from contracts.events.merchant import MerchantEvent
from contracts.events.order import OrderEvent
from contracts.events.payment import PaymentEvent
from contracts.events.product import ProductEvent
from contracts.events.refund import RefundEvent
from contracts.events.stock import ReservationEvent, ReservationState, StockMovementEvent, StockMovementState
from contracts.events.upcasting import UnreadableEventError, read_state


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """An answer, put together in one snapshot of a pod's database, or in one commit of its search index."""

    body: bytes | None
    """JSON. None: what was asked for does not exist, which is an answer, too."""
    epoch: str
    """The epoch of `cut`."""
    cut: int
    """The last cut that was registered in that snapshot, or that the index has applied: every event of the cuts up to
    it is in the answer.
    """
    tags: tuple[str, ...]
    """What it is made of."""


def merchant_tag(merchant_id: str) -> str:
    """Return the tag of all that depends on a merchant's configuration."""
    return f"merchant:{merchant_id}"


def product_tag(product_id: str) -> str:
    """Return the tag of all that shows a product, its variants or their prices."""
    return f"product:{product_id}"


def catalog_tag(merchant_id: str) -> str:
    """Return the tag of all that shows which products a merchant has, as a search does."""
    return f"catalog:{merchant_id}"


def variant_tag(variant_id: str) -> str:
    """Return the tag of all that shows how much of a variant can be sold."""
    return f"variant:{variant_id}"


class Touch(StrEnum):
    """What an event touches."""

    MERCHANT = "the merchant"
    PRODUCT = "the product, and the catalog of its merchant"
    STOCK = "the variants whose stock it changes"
    NOTHING = "nothing that is shown in an assembled answer"


TOUCHES: Mapping[StrEnum, Touch] = {
    MerchantEvent.MERCHANT_REGISTERED: Touch.MERCHANT,
    MerchantEvent.MERCHANT_CONFIGURED: Touch.MERCHANT,
    MerchantEvent.MERCHANT_RESTATED: Touch.MERCHANT,
    ProductEvent.PRODUCT_UPSERTED: Touch.PRODUCT,
    ProductEvent.VARIANT_UPSERTED: Touch.PRODUCT,
    ProductEvent.PRICE_SET: Touch.PRODUCT,
    ProductEvent.PRODUCT_RESTATED: Touch.PRODUCT,
    StockMovementEvent.STOCK_MOVED: Touch.STOCK,
    ReservationEvent.STOCK_RESERVED: Touch.STOCK,
    ReservationEvent.RESERVATION_CONSUMED: Touch.STOCK,
    ReservationEvent.RESERVATION_RELEASED: Touch.STOCK,
    ReservationEvent.RESERVATION_EXPIRED: Touch.STOCK,
    ReservationEvent.RESERVATION_RESTATED: Touch.STOCK,
    # The stock of an order is in its reservation and in the movements, which have events of their own.
    OrderEvent.ORDER_PLACED: Touch.NOTHING,
    OrderEvent.ORDER_CANCELLED: Touch.NOTHING,
    OrderEvent.ORDER_FULFILLED: Touch.NOTHING,
    OrderEvent.ORDER_UNITS_WITHDRAWN: Touch.NOTHING,
    OrderEvent.ORDER_RESTATED: Touch.NOTHING,
    FulfillmentEvent.FULFILLMENT_SHIPPED: Touch.NOTHING,
    PaymentEvent.PAYMENT_AUTHORIZED: Touch.NOTHING,
    PaymentEvent.PAYMENT_DECLINED: Touch.NOTHING,
    PaymentEvent.PAYMENT_CAPTURED: Touch.NOTHING,
    PaymentEvent.PAYMENT_VOIDED: Touch.NOTHING,
    PaymentEvent.PAYMENT_RELEASED: Touch.NOTHING,
    PaymentEvent.PAYMENT_REFUNDED: Touch.NOTHING,
    PaymentEvent.PAYMENT_REFUND_FAILED: Touch.NOTHING,
    PaymentEvent.PAYMENT_DISPUTE_OPENED: Touch.NOTHING,
    PaymentEvent.PAYMENT_DISPUTE_WON: Touch.NOTHING,
    PaymentEvent.PAYMENT_DISPUTE_LOST: Touch.NOTHING,
    PaymentEvent.PAYMENT_PENDING: Touch.NOTHING,
    PaymentEvent.PAYMENT_FAILED: Touch.NOTHING,
    PaymentEvent.PAYMENT_EXPIRED: Touch.NOTHING,
    PaymentEvent.PAYMENT_RETURNED: Touch.NOTHING,
    PaymentEvent.PAYMENT_UNALLOCATED: Touch.NOTHING,
    PaymentEvent.PAYMENT_GIVEN_BACK: Touch.NOTHING,
    PaymentEvent.PAYMENT_RESTATED: Touch.NOTHING,
    RefundEvent.REFUND_REQUESTED: Touch.NOTHING,
    RefundEvent.REFUND_COMPLETED: Touch.NOTHING,
    RefundEvent.REFUND_FAILED: Touch.NOTHING,
    RefundEvent.REFUND_RESTATED: Touch.NOTHING,
    MerchantEntitlementEvent.MERCHANT_ENTITLEMENT_GRANTED: Touch.NOTHING,
    MerchantEntitlementEvent.MERCHANT_ENTITLEMENT_REVOKED: Touch.NOTHING,
    MerchantEntitlementEvent.MERCHANT_ENTITLEMENT_RESTATED: Touch.NOTHING,
    CustomerEntitlementEvent.CUSTOMER_ENTITLEMENT_GRANTED: Touch.NOTHING,
    CustomerEntitlementEvent.CUSTOMER_ENTITLEMENT_REVOKED: Touch.NOTHING,
    CustomerEntitlementEvent.CUSTOMER_ENTITLEMENT_RESTATED: Touch.NOTHING,
    AdjustmentEvent.ADJUSTMENT_BOOKED: Touch.NOTHING,
    GiftCardEvent.GIFT_CARD_ISSUED: Touch.NOTHING,
    GiftCardEvent.GIFT_CARD_REDEEMED: Touch.NOTHING,
    GiftCardEvent.GIFT_CARD_CREDITED: Touch.NOTHING,
    GiftCardEvent.GIFT_CARD_EXPIRED: Touch.NOTHING,
    GiftCardEvent.GIFT_CARD_RESTATED: Touch.NOTHING,
}
"""By type of event. A test holds every type of event against it."""
_TOUCH_OF = {str(event_type): touch for event_type, touch in TOUCHES.items()}


@dataclass(frozen=True, kw_only=True)
class TouchingEvent:
    """What must be known of an event to say what it touches: columns of its envelope."""

    merchant_id: str
    aggregate_type: str
    aggregate_id: str
    event_type: str
    schema_version: int
    payload: str


def touched_by(event: TouchingEvent) -> Sequence[str]:
    """Return the tags that an event touches.

    An event that this program does not know, or cannot read, touches all of its merchant: too much is loaded again, but
    nothing old is shown.
    """
    touch = _TOUCH_OF.get(event.event_type, Touch.MERCHANT)
    if touch is Touch.NOTHING:
        return ()
    if touch is Touch.PRODUCT:
        return product_tag(event.aggregate_id), catalog_tag(event.merchant_id)
    if touch is Touch.STOCK:
        try:
            return [variant_tag(variant_id) for variant_id in _variants(event)]
        except UnreadableEventError:
            pass
    return (merchant_tag(event.merchant_id),)


def _variants(event: TouchingEvent) -> Sequence[str]:
    if event.aggregate_type == StockMovementState.AGGREGATE_TYPE:
        return (read_state(StockMovementState, event.schema_version, event.payload).variant_id,)
    state = read_state(ReservationState, event.schema_version, event.payload)
    return sorted({line.variant_id for line in state.lines})
