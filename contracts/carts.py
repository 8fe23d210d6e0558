"""What a cart is called, and its limits.

Belongs here: the key of a cart, the id of a customer's cart, the limits that commands, stores and documents share. Does
not belong here: the units of a line (`contracts/limits.py`), what a cart holds (`oltp/domain/carts.py`), where it is
stored (`oltp/carts/`).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Annotated

from contracts.limits import Count, Text, Whole

CART_LINES = Count(name="SKUs in a cart", most=500)
CART_DOTS = Count(name="additions that a cart holds apart", most=2_000)
CART_ACTORS = Count(name="devices that have changed a cart", most=500)
CART_NUMBER = Whole(name="the number of a cart", least=1, most=10**9)
DEVICE_ID = Text(name="a device id", longest=64)

CART_AGE_DAYS = 90
"""A cart that nobody has changed for so long counts as empty."""
CARTS_QUEUED_MAX = 100_000
"""How many carts of a pod may wait for its database; a further one cannot be changed."""
CART_WRITE_MS = 1_000
"""After how many milliseconds a change of a cart is in its pod; what Valkey alone holds is at most that old."""

DeviceId = Annotated[str, DEVICE_ID, DEVICE_ID.schema]
CartNumber = Annotated[int, CART_NUMBER, CART_NUMBER.schema]

_CUSTOMERS_CARTS = uuid.UUID("6f1f2f0c-3d0a-4d64-9a57-6f0f3c0b8f7e")
"""Namespace of the ids of customers' carts."""


@dataclass(frozen=True, kw_only=True, order=True)
class CartKey:
    """Which cart: its merchant, and a UUID in text."""

    merchant_id: str
    cart_id: str

    @property
    def text(self) -> str:
        """Return the key as one text. A UUID has a fixed length, so two keys never have the same text."""
        return f"{self.cart_id}/{self.merchant_id}"

    @classmethod
    def of_text(cls, text: str) -> CartKey:
        """Return the key whose `text` this is."""
        cart_id, _, merchant_id = text.partition("/")
        return cls(merchant_id=merchant_id, cart_id=cart_id)


def cart_of_customer(merchant_id: str, customer_id: str) -> CartKey:
    """Return the key of a customer's cart. It follows from the customer, so every device finds the same one."""
    # The length keeps two pairs with the same joined text apart.
    name = f"{len(merchant_id)}/{merchant_id}/{customer_id}"
    return CartKey(merchant_id=merchant_id, cart_id=str(uuid.uuid5(_CUSTOMERS_CARTS, name)))
