"""How far pods are behind Valkey's carts, and Valkey behind those that it did not see.

Belongs here: asking the server of carts, and the pod. Does not belong here: whether both stores agree
(`reconcile/copies/cart.py`).
"""

from __future__ import annotations

from contextlib import closing

import psycopg

from contracts.settings import Settings
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer

_AHEAD = """
select count(*), coalesce(greatest(extract(epoch from now() - min(written_at)), 0), 0)::double precision
from oltp.carts where is_ahead
"""


def waiting_of(settings: Settings, pod: str) -> tuple[int, float]:
    """Return how many carts wait for the other store, and for how many seconds the first has waited.

    They wait to be written to the pod, or, changed in the pod while Valkey was away, to be brought back to Valkey.
    """
    with closing(CartServer(settings.carts_url)) as server:
        queued, queued_seconds = ValkeyCarts(server, queued_max=settings.carts_queued_max).waiting(pod)
    with psycopg.connect(settings.pod(pod).reader_dsn) as connection:
        row = connection.execute(_AHEAD).fetchone()
    ahead, ahead_seconds = (int(row[0]), float(row[1])) if row else (0, 0.0)
    return queued + ahead, max(queued_seconds, ahead_seconds)
