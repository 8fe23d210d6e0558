"""Programs to copy from; nothing in the product imports them, and tests run them."""
