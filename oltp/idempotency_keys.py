"""For how long idempotency keys are kept, and removing those whose lease is over; a schedule runs this.

Belongs here: how long a key is kept, whether one is, and removing older keys. Does not belong here: what a key does
(`oltp/commands/execute.py`), when this runs (`orchestration/`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg

KEY_LEASE = timedelta(days=30)
"""How long a repeated command is recognised by its key; clients stop repeating earlier. Keys of imports are kept
permanently. The function `oltp.prune_idempotency_keys` refuses a lease below 7 days."""

KEYS_AT_ONCE = 10_000
"""Keys per transaction; a command that claims one of these keys waits for at most one such transaction."""

_PRUNE = "select oltp.prune_idempotency_keys(%s, %s)"
_IS_CLAIMED = "select exists (select from oltp.idempotency_keys where merchant_id = %s and idempotency_key = %s)"


def is_claimed(connection: psycopg.Connection[Any], merchant_id: str, key: str) -> bool:
    """Return whether a command has run, or runs, under a merchant's key."""
    ((claimed,),) = connection.execute(_IS_CLAIMED, (merchant_id, key)).fetchall()
    return bool(claimed)


def prune_keys(relay_dsn: str, *, lease: timedelta = KEY_LEASE, at_once: int = KEYS_AT_ONCE) -> int:
    """Remove the keys of a pod whose lease is over, `at_once` per transaction; return how many were removed."""
    removed = 0
    with psycopg.connect(relay_dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(_PRUNE, (lease, at_once)).fetchone()
            done = int(row[0]) if row else 0
            removed += done
            if done < at_once:
                return removed
