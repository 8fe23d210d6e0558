"""The form of an API key, and its digest.

    tieout_storefront_3f9c21d07a4e_<43 characters>

The beginning is readable: it says whose key it is in a log or a leak, and names the row in the list of keys. The rest
are 256 random bits. Only a digest is stored: HMAC-SHA256 with a pepper that is not in the database. A slow hash would
protect nothing here, because 256 random bits cannot be guessed.

Belongs here: making, reading and hashing keys. Does not belong here: storing them (`api/keys/store.py`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from api.declaring import Role

KEY_ID_CHARACTERS = 12
KEY_CHARACTERS_MAX = 100
_KEY = re.compile(rf"tieout_({'|'.join(Role)})_([0-9a-f]{{{KEY_ID_CHARACTERS}}})_([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key that was just made: its text is shown once and never stored."""

    key_id: str
    role: Role
    text: str = field(repr=False)


def new_key(role: Role) -> NewKey:
    """Return a new random key."""
    key_id = secrets.token_hex(KEY_ID_CHARACTERS // 2)
    return NewKey(key_id=key_id, role=role, text=f"tieout_{role}_{key_id}_{secrets.token_urlsafe(32)}")


def readable(role: Role, key_id: str) -> str:
    """Return the beginning of a key, which may be shown and logged."""
    return f"tieout_{role}_{key_id}"


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key; others need not be looked up."""
    return len(text) <= KEY_CHARACTERS_MAX and _KEY.fullmatch(text) is not None


def digest_of(pepper: bytes, text: str) -> bytes:
    """Return what is stored of a key."""
    return hmac.digest(pepper, text.encode(), hashlib.sha256)
