"""Carts and sessions as the interface uses them.

Belongs here: putting them together for one process. Does not belong here: carts and sessions (`oltp/carts/`), their
routes (`api/routes/carts.py`, `api/routes/sessions.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from api.pods import Pods
from contracts.settings import Settings
from oltp.carts.cart_requests import Carts
from oltp.carts.sessions import Sessions
from oltp.carts.valkey_carts import ValkeyCarts
from oltp.carts.valkey_server import CartServer

NO_SERVER = "redis://there-is-no-server-of-carts.invalid/0"
"""Stands for the server that no setting names: carts are then served from their pods, and there are no sessions."""


@dataclass(frozen=True, kw_only=True)
class Shoppers:
    """The carts and sessions of all merchants. Thread-safe."""

    server: CartServer
    carts: Carts
    sessions: Sessions

    def close(self) -> None:
        """Close the connections."""
        self.server.close()


def build_shoppers(settings: Settings, pods: Pods) -> Shoppers:
    """Return the carts and sessions; they connect at first use."""
    server = CartServer(settings.carts_url or NO_SERVER)
    carts = Carts(
        valkey=ValkeyCarts(server, queued_max=settings.carts_queued_max),
        pod_of=pods.home,
        age_days=settings.cart_age_days,
    )
    return Shoppers(server=server, carts=carts, sessions=Sessions(server=server))
