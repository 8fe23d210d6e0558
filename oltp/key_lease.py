"""Removing idempotency keys whose lease is over: what a schedule runs.

Belongs here: how long a key is remembered, and removing the others until none is left. Does not belong here: what a key
does (`oltp/commands/execute.py`), when this runs (`orchestration/`).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

KEY_LEASE = timedelta(days=30)
"""How long a repeated command is recognised by its key: longer than any client repeats one. The keys of imports are
kept for good. PostgreSQL refuses to go below 7 days, whoever calls (`oltp.prune_idempotency_keys`)."""

KEYS_AT_ONCE = 10_000
"""Keys per transaction: commands that claim a key at this moment wait for one of these at most."""

_PRUNE = "select oltp.prune_idempotency_keys(%s, %s)"


def prune_keys(relay_dsn: str, *, lease: timedelta = KEY_LEASE, at_once: int = KEYS_AT_ONCE) -> int:
    """Remove the keys of a pod whose lease is over, `at_once` in each transaction; return how many were."""
    removed = 0
    with psycopg.connect(relay_dsn, autocommit=True) as connection:
        while True:
            row = connection.execute(_PRUNE, (lease, at_once)).fetchone()
            done = int(row[0]) if row else 0
            removed += done
            if done < at_once:
                return removed
