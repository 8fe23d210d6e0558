"""Orders that stand in the files more than once.

Belongs here: which of them are copies, and which contradict each other. Does not belong here: orders that the books
hold already (`known.py`).

Memory holds some 200 bytes per order of the files.
"""

from __future__ import annotations

import hashlib

from contracts.limits import MERCHANT_ID
from traffic.orders.mapping import RejectedError
from traffic.orders.reading import RawOrder


class Twice:
    """Sees every order once, and then tells of each whether another one of its name was there."""

    def __init__(self) -> None:
        self.merchants: dict[str, int] = {}
        """Orders by merchant; nobody is called what no merchant can be called."""
        self.copies = 0
        self._first: dict[bytes, tuple[int, int, bytes]] = {}
        self._copied: set[bytes] = set()
        self._contradicting: set[bytes] = set()

    def see(self, raw: RawOrder) -> None:
        """Take an order of the files, in their order."""
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
        """Return whether the same order, with the same content, stands before this one."""
        name = _name(raw.key)
        if name not in self._copied or name in self._contradicting:
            return False
        return self._first[name][:2] != (raw.file, raw.line)

    def has_copies(self, key: tuple[str, str]) -> bool:
        """Return whether copies of the order follow."""
        return _name(key) in self._copied

    def check(self, raw: RawOrder) -> None:
        """RejectedError for an order that cannot be read, or of which the files say two things: neither is booked."""
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
