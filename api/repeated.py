"""A request that is repeated under its idempotency key asks for the same; used by stores whose changes are no commands.

Belongs here: that comparison. Does not belong here: where requests are kept (`api/keys/store.py`,
`api/webhooks/store.py`), commands (`oltp/commands/body.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.errors import IdempotencyConflictError


def require_same(key: str, before: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise IdempotencyConflictError unless the request that is known under the key had asked for the same."""
    differing = sorted(name for name in {*before, *asked} if before.get(name) != asked.get(name))
    if differing:
        raise IdempotencyConflictError(
            f"Idempotency key {key!r} was used for another request; use a new one.", fields=differing
        )
