"""The routes, a module per subject, and the list of all of them.

Belongs here: the list. Does not belong here: what is the same for all routes (`api/dispatch.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec

from api.declaring import Route
from api.routes.about import ROUTES as ABOUT
from api.routes.carts import ROUTES as CARTS
from api.routes.catalog import ROUTES as CATALOG
from api.routes.checkouts import ROUTES as CHECKOUTS
from api.routes.disputes import ROUTES as DISPUTES
from api.routes.keys import ROUTES as KEYS
from api.routes.merchants import ROUTES as MERCHANTS
from api.routes.operator import ROUTES as OPERATOR
from api.routes.orders import ROUTES as ORDERS
from api.routes.payments import ROUTES as PAYMENTS
from api.routes.products import ROUTES as PRODUCTS
from api.routes.provider import ROUTES as PROVIDER
from api.routes.sessions import ROUTES as SESSIONS
from api.routes.webhooks import ROUTES as WEBHOOKS
from contracts.ownership import KEYED


def _of_copies() -> Iterator[Route]:
    """Yield the routes that answer from a read model or search: each has a module of its name, if it has routes."""
    for copy in KEYED:
        if find_spec(f"{__name__}.{copy.name}") is not None:
            yield from import_module(f"{__name__}.{copy.name}").ROUTES


ROUTES: tuple[Route, ...] = (
    *ABOUT,
    *PRODUCTS,
    *SESSIONS,
    *CARTS,
    *CHECKOUTS,
    *ORDERS,
    *PAYMENTS,
    *DISPUTES,
    *_of_copies(),
    *CATALOG,
    *MERCHANTS,
    *KEYS,
    *PROVIDER,
    *WEBHOOKS,
    *OPERATOR,
)
"""A new module of routes is added here."""
