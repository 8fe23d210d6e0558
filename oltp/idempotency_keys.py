"""For how long idempotency keys are kept, and removing those whose lease is over; a schedule runs this.

Belongs here: how long a key is kept, and removing older keys. Does not belong here: what a key does
(`oltp/commands/execute.py`), when this runs (`orchestration/`).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

KEY_LEASE = timedelta(days=30)
"""How long a repeated command is recognised by its key; clients stop repeating earlier. Keys of imports are kept
permanently. The function `oltp.prune_idempotency_keys` refuses a lease below 7 days."""

KEYS_AT_ONCE = 10_000
"""Keys per transaction; a command that claims one of these keys waits for at most one such transaction."""

_PRUNE = "select oltp.prune_idempotency_keys(%s, %s)"


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
