"""Orders that occur more than once in the files.

Belongs here: which of them are copies, and which contradict each other. Does not belong here: orders that are already
booked (`known.py`).

This takes about 200 bytes of memory per order.
"""

from __future__ import annotations

import hashlib

from contracts.limits import MERCHANT_ID
from traffic.orders.mapping import RejectedError
from traffic.orders.reading import RawOrder


class Twice:
    """Records every order once; afterwards it answers whether an order has copies."""

    def __init__(self) -> None:
        self.merchants: dict[str, int] = {}
        """Number of orders by merchant id, for valid merchant ids only."""
        self.copies = 0
        self._first: dict[bytes, tuple[int, int, bytes]] = {}
        self._copied: set[bytes] = set()
        self._contradicting: set[bytes] = set()

    def see(self, raw: RawOrder) -> None:
        """Record an order; call it in file order."""
        merchant_id, number = raw.key
        if not number:
            return
        if MERCHANT_ID.problem(merchant_id) is None:
            self.merchants[merchant_id] = self.merchants.get(merchant_id, 0) + 1
        name = _name(raw.key)
        _, _, digest = self._first.setdefault(name, (raw.file, raw.line, raw.digest))
        if self._first[name][:2] == (raw.file, raw.line):
            return
        if digest == raw.digest:
            self.copies += 1
            self._copied.add(name)
        else:
            self._contradicting.add(name)

    def is_copy(self, raw: RawOrder) -> bool:
        """Return whether an equal order with the same content came before this one."""
        name = _name(raw.key)
        if name not in self._copied or name in self._contradicting:
            return False
        return self._first[name][:2] != (raw.file, raw.line)

    def has_copies(self, key: tuple[str, str]) -> bool:
        """Return whether copies of the order follow."""
        return _name(key) in self._copied

    def check(self, raw: RawOrder) -> None:
        """Raise RejectedError for an unreadable order, and for one with two different contents (book neither)."""
        if raw.reason:
            raise RejectedError(raw.reason, raw.detail)
        if not raw.key[0] and raw.key[1]:
            raise RejectedError("field_missing", "no merchant_id")
        if _name(raw.key) in self._contradicting:
            raise RejectedError(
                "order_stands_twice_with_other_content",
                "its rows do not stand together, or two orders have its number; none of them is booked",
            )


def _name(key: tuple[str, str]) -> bytes:
    return hashlib.blake2b("\x1f".join(key).encode(), digest_size=16).digest()
