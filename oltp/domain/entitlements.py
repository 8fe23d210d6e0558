"""The value of an entitlement: it is derived from the best grant that is neither revoked nor expired; there is no flag.

Belongs here: granting, revoking and deriving, for merchants and customers alike. Does not belong here: who may grant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec

from contracts.errors import ConflictError, InputError
from contracts.events.entitlement import Grant


def effective_grant(grants: Sequence[Grant], at: datetime) -> Grant | None:
    """Return the best grant that is neither revoked nor expired at `at`, or None.

    The best grant has the highest level; then the latest expiry (no expiry is the latest), then the earliest
    `granted_at`, then the lowest id. A later expiry is evaluated by the reader with its own clock, so that the state
    never changes without an event.
    """
    surviving = [grant for grant in grants if _is_live(grant, at)]
    return min(surviving, key=_rank, default=None)


def _rank(grant: Grant) -> tuple[int, float, datetime, str]:
    ends = math.inf if grant.expires_at is None else grant.expires_at.timestamp()
    return -grant.level, -ends, grant.granted_at, grant.grant_id


def add_grant(grants: Sequence[Grant], grant: Grant) -> list[Grant]:
    """Return the grants with one more, ordered by (granted_at, grant_id).

    A grantor has at most one live grant: ConflictError when it already has one (an expired grant does not count).
    """
    if grant.level < 1:
        raise InputError(f"The level of a grant is {grant.level}; it must be at least 1.")
    if grant.expires_at is not None and grant.expires_at <= grant.granted_at:
        raise InputError("A grant cannot expire before it is given.")
    for other in grants:
        if other.grantor == grant.grantor and _is_live(other, grant.granted_at):
            raise ConflictError(f"{grant.grantor} has already granted this; revoke that grant first.")
    return _ordered([*grants, grant])


def revoke_grant(grants: Sequence[Grant], grantor: str, revoked_at: datetime) -> list[Grant]:
    """Return the grants with the live grant of `grantor` revoked; ConflictError when it has no live grant."""
    if not any(grant.grantor == grantor and grant.revoked_at is None for grant in grants):
        raise ConflictError(f"{grantor} has granted nothing here that could be revoked.")
    return _ordered(
        [
            msgspec.structs.replace(grant, revoked_at=revoked_at)
            if grant.grantor == grantor and grant.revoked_at is None
            else grant
            for grant in grants
        ]
    )


def _is_live(grant: Grant, at: datetime) -> bool:
    return grant.revoked_at is None and (grant.expires_at is None or grant.expires_at > at)


def _ordered(grants: Sequence[Grant]) -> list[Grant]:
    return sorted(grants, key=lambda grant: (grant.granted_at, grant.grant_id))
