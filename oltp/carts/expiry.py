"""Removing carts that nobody has changed for long; a routine runs this.

A cart counts as empty when it expires, by its own time and wherever it is stored (`oltp.domain.carts.is_expired`).
Its row is removed a day later, when no process whose clock is behind takes it for a live one any more. Valkey's copy
has a time to live by then.

Belongs here: removing. Does not belong here: after how many days a cart expires (`contracts/carts.py`), what expired
means (`oltp/domain/carts.py`).
"""

from __future__ import annotations

from oltp.carts.durable_carts import DurableCarts
from oltp.domain.carts import MILLISECONDS

GRACE_DAYS = 1
AT_ONCE = 1_000
_DAY_MS = 86_400 * MILLISECONDS


def expire_carts(durable: DurableCarts, *, at_once: int = AT_ONCE) -> int:
    """Remove the expired carts of a pod, `at_once` per transaction; return how many were removed."""
    now_ms = int(durable.pod.clock().timestamp() * MILLISECONDS)
    before_ms = now_ms - (durable.age_days + GRACE_DAYS) * _DAY_MS
    removed = 0
    while True:
        done = durable.expire(before_ms, at_once)
        removed += done
        if done < at_once:
            return removed
