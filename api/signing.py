"""Values that clients carry for us and cannot change: signed, and opaque to them.

Belongs here: signing and checking, with a secret per purpose. Does not belong here: what is carried (`api/cursors.py`,
`api/positions.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from contracts.errors import InputError

SIGNATURE_BYTES = 12
CARRIED_CHARACTERS_MAX = 2_000


def derived_secret(pepper: str, purpose: str) -> bytes:
    """Return the secret of one purpose, so that what is signed for one is never taken for another."""
    return hmac.digest(pepper.encode(), purpose.encode(), hashlib.sha256)


@dataclass(frozen=True)
class Signer:
    """Signs values of one purpose."""

    secret: bytes
    name: str
    """What a client calls such a value, for the sentence that refuses it."""

    def sign(self, value: bytes) -> str:
        """Return the value with its signature, as text that fits in a header and in a query."""
        return base64.urlsafe_b64encode(self._signature(value) + value).rstrip(b"=").decode()

    def read(self, text: str) -> bytes:
        """Return a value that we have signed; InputError for any other text."""
        try:
            if len(text) > CARRIED_CHARACTERS_MAX:
                raise ValueError("too long")
            carried = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise self._refusal() from None
        signature, value = carried[:SIGNATURE_BYTES], carried[SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(value)):
            raise self._refusal()
        return value

    def _signature(self, value: bytes) -> bytes:
        return hmac.digest(self.secret, value, hashlib.sha256)[:SIGNATURE_BYTES]

    def _refusal(self) -> InputError:
        return InputError(f"This is no {self.name} that this service has given; send it back as you got it.")
