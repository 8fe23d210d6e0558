"""How far pods are behind Valkey's carts.

Belongs here: asking the server of carts. Does not belong here: whether both stores agree (`reconcile/copies/cart.py`).
"""

from __future__ import annotations

from contextlib import closing

from contracts.settings import Settings
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer


def waiting_of(settings: Settings, pod: str) -> tuple[int, float]:
    """Return how many carts wait to be written to a pod, and for how many seconds the first has waited."""
    with closing(CartServer(settings.carts_url)) as server:
        return ValkeyCarts(server, queued_max=settings.carts_queued_max).waiting(pod)
