"""Reads of a merchant by commands that do not change it."""

from __future__ import annotations

from contracts.errors import NotFoundError
from oltp.transaction import CommandTransaction

_CURRENCY = "select currency from oltp.merchants where merchant_id = %s for share"


def merchant_currency(tx: CommandTransaction, merchant_id: str) -> str:
    """Return the currency of a merchant's prices and lock its row, so that it cannot change in this transaction."""
    row = tx.once(("currency", merchant_id), lambda: tx.query(_CURRENCY, (merchant_id,)).fetchone)()
    if row is None:
        raise NotFoundError(f"Merchant {merchant_id} does not exist.")
    return str(row[0])
