"""Position tokens: every write answers with one, and a later read that carries it sees at least that write.

Belongs here: what a token holds. Does not belong here: waiting for a copy (`api/models.py`).

A token names the pod, the end of its write-ahead log after the commit (for replicas), and the transaction of the write:
a cut of the pod holds the write if its snapshot shows this transaction.
"""

from __future__ import annotations

import msgspec

from api.signing import Signer

HEADER = "Tieout-Position"


class Position(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Where a write is."""

    pod: str
    lsn: str
    xid: int


def token_of(signer: Signer, position: Position) -> str:
    """Return the token of a position."""
    return signer.sign(msgspec.msgpack.encode(position))


def position_of(signer: Signer, token: str) -> Position:
    """Return the position of a token; InputError for a text that is none."""
    return msgspec.msgpack.decode(signer.read(token), type=Position)
