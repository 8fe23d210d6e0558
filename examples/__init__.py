"""Example programs; no product code imports them, and tests run them."""
