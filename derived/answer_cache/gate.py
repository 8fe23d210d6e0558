"""How many answers are loaded from OLTP at once, and who is refused first.

Belongs here: counting and waiting, in one process. Does not belong here: loading. Checkout does not come by here: it
reads OLTP by itself, and what this refuses is what would take the database's time from it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from contracts.errors import OverloadedError

LOADS_MAX = 8
"""Loads at once in one process."""


class LoadGate:
    """Lets a limited number of loads through. A kind with a smaller share is refused while others still get in."""

    def __init__(self, loads_max: int = LOADS_MAX) -> None:
        self._loads_max = loads_max
        self._loading = 0
        self._changed = threading.Condition()

    @contextmanager
    def place(self, share: float, *, wait_seconds: float) -> Iterator[None]:
        """Hold a place while the block runs; OverloadedError when none becomes free in time."""
        most = max(1, int(self._loads_max * share))
        with self._changed:
            if not self._changed.wait_for(lambda: self._loading < most, wait_seconds):
                raise OverloadedError(
                    f"{self._loading} answers are being loaded at once, and this kind of answer may wait; ask again."
                )
            self._loading += 1
        try:
            yield
        finally:
            with self._changed:
                self._loading -= 1
                # Those who wait have different limits, so each looks for itself.
                self._changed.notify_all()
