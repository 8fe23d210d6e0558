"""The signature of the payment provider on a notification: who sent it, and that it was sent a moment ago.

    Provider-Signature: t=1771000000,v1=<hex of HMAC-SHA256(secret, "1771000000." + body)>

Belongs here: checking a signature, and making one for tests and imitations of a provider. Does not belong here: what a
notification says (`oltp/domain/notifications.py`).

A header may hold several `v1`, and we may have two secrets: so either side can change the secret without losing a
notification. Whoever has read a notification can repeat it for five minutes only, and then it is one that we have.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from contracts.errors import SignatureError

HEADER = "Provider-Signature"
SECONDS_MAX = 300
"""How far the time of a signature may be from ours, in either direction."""
HEADER_CHARACTERS_MAX = 1_000
_PART = re.compile(r"(t|v1)=([0-9a-f]{1,64})")


def signature_of(secret: str, body: bytes, seconds: int) -> str:
    """Return the header for a body that is sent at this Unix time."""
    return f"t={seconds},v1={_digest(secret, body, str(seconds))}"


def require_signed(header: str, body: bytes, secrets: Sequence[str], now: float) -> None:
    """Raise SignatureError unless the header signs the body with one of the secrets, at about `now` (Unix time)."""
    if not secrets:
        raise SignatureError("This system has no secret of the payment provider, so it takes no notification.")
    parts = [_PART.fullmatch(part.strip()) for part in header[:HEADER_CHARACTERS_MAX].split(",")]
    times = [part[2] for part in parts if part is not None and part[1] == "t"]
    digests = [part[2] for part in parts if part is not None and part[1] == "v1"]
    if len(times) != 1 or not digests or not times[0].isdigit():
        raise SignatureError(f"The request needs the header `{HEADER}: t=<Unix time>,v1=<hex>`.")
    expected = [_digest(secret, body, times[0]) for secret in secrets]
    # Compare every pair, so that the time taken says nothing about which secret or digest is near.
    matches = [hmac.compare_digest(one, given) for one in expected for given in digests]
    if not any(matches):
        raise SignatureError("The signature does not fit the body.")
    if len(times[0]) > 12 or abs(now - int(times[0])) > SECONDS_MAX:
        raise SignatureError(f"The signature's time is more than {SECONDS_MAX} s from ours.")


def _digest(secret: str, body: bytes, seconds: str) -> str:
    return hmac.new(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256).hexdigest()
