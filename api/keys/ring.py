"""The keys that a process knows: each is read again after half a second, so a revocation takes effect within one.

Belongs here: how long a key is remembered. Does not belong here: the table (`api/keys/store.py`).

While the control database does not answer, a key that was valid before stays so for `STALE_SECONDS_MAX`: nobody can
revoke a key in that time either, and an outage of this database must not stop the shops.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from api.calls import Caller
from api.keys.forms import is_key
from api.keys.store import Key, KeyStore
from contracts.errors import StackError, UnauthenticatedError

FRESH_SECONDS = 0.5
STALE_SECONDS_MAX = 3_600.0
RETRY_SECONDS = 5.0
"""While the control database does not answer, a known key is taken without asking it for this long."""
REMEMBERED_MAX = 10_000

logger = logging.getLogger("tieout.api")


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    key: Key
    read_at: float
    fresh_until: float


class KeyRing:
    """Finds the caller of a key. Thread-safe."""

    def __init__(self, store: KeyStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._lock = threading.Lock()
        # By digests, so that no dump of this process's memory shows many keys.
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def remembered(self, text: str) -> Caller | None:
        """Return the caller of a key that was read just now, without any I/O; None: ask `caller`."""
        found = self._remembered.get(_name(text))
        if found is None or self._monotonic() > found.fresh_until:
            return None
        return self._caller(found.key)

    def caller(self, text: str) -> Caller:
        """Return the caller of a key; UnauthenticatedError when it opens nothing. Reads the key when it must."""
        if not is_key(text):
            raise UnauthenticatedError("This is no API key.")
        known = self.remembered(text)
        if known is not None:
            return known
        return self._caller(self._read(text))

    def _read(self, text: str) -> Key | None:
        name = _name(text)
        began = self._monotonic()
        try:
            key = self._store.find(text)
        except StackError:
            found = self._remembered.get(name)
            if found is None or began - found.read_at > STALE_SECONDS_MAX:
                raise
            logger.warning("The control database does not answer; a known key is still taken.")
            until = self._monotonic() + RETRY_SECONDS
            self._remember(name, _Remembered(key=found.key, read_at=found.read_at, fresh_until=until))
            return found.key
        if key is None:
            # Unknown keys are not remembered: somebody who guesses would push out the valid ones.
            return None
        # From the beginning of the look: what was revoked meanwhile may not be in its answer.
        self._remember(name, _Remembered(key=key, read_at=began, fresh_until=began + FRESH_SECONDS))
        return key

    def _remember(self, name: bytes, value: _Remembered) -> None:
        with self._lock:
            self._remembered[name] = value
            self._remembered.move_to_end(name)
            while len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)

    def _caller(self, key: Key | None) -> Caller:
        if key is None:
            raise UnauthenticatedError("This API key is not known.")
        if not key.is_valid(self._store.clock()):
            raise UnauthenticatedError(f"API key {key.readable} was revoked or has expired.")
        return Caller(key_id=key.key_id, role=key.role, merchant_id=key.merchant_id)


def _name(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
