"""Who gets what is true now, and who may get an answer that was put together some seconds ago.

Belongs here: that rule, for every read that goes through the cache. Does not belong here: the answers (`answers.py`).
"""

from __future__ import annotations

from api.calls import Call
from api.declaring import Role
from api.positions import HEADER, position_of

POSITION = HEADER.lower()


def wants_now(call: Call) -> bool:
    """Return whether a read must be as of now: staff, and whoever names a position. A made-up position is refused."""
    if (token := call.headers.get(POSITION)) is not None:
        position_of(call.services.tokens, token)  # OLTP holds every write; a token that is none is refused all the same
    return token is not None or call.caller is None or call.caller.role is not Role.STOREFRONT
