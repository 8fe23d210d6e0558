"""The names under which devices change a cart.

An actor must never use the number of an event twice, not even for carts that are merged later, and not when a store has
lost its newest state. So a name has the device and an *incarnation*: a random text that a store draws when a cart
begins there, and again when it may have lost something of it.

Belongs here: making these names. Does not belong here: when a store draws a new incarnation (`valkey_carts.py`,
`durable_carts.py`).
"""

from __future__ import annotations

import secrets

CHECKOUT = "checkout"
"""Stands for the device where an order closes a cart."""


def new_incarnation() -> str:
    """Return a random text that no cart had before."""
    return secrets.token_hex(8)


def actor_of(device_id: str, incarnation: str) -> str:
    """Return the name of a device in one incarnation of one cart."""
    return f"{device_id}~{incarnation}"
