"""Carts: kept in Valkey for speed, in the merchant's pod for good, and equal by merging.

Belongs here: both stores, the writer between them, the requests that change a cart, and sessions, which share the
server. Does not belong here: what a cart is (`oltp/domain/carts.py`), turning one into an order
(`oltp/commands/check_out_cart.py`).
"""
