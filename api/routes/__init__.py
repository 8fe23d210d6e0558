"""The routes, a module per subject, and the list of all of them.

Belongs here: the list. Does not belong here: what is the same for all routes (`api/dispatch.py`).
"""

from __future__ import annotations

from api.declaring import Route
from api.routes.about import ROUTES as ABOUT
from api.routes.accounts import ROUTES as ACCOUNTS
from api.routes.catalog import ROUTES as CATALOG
from api.routes.checkouts import ROUTES as CHECKOUTS
from api.routes.keys import ROUTES as KEYS
from api.routes.merchants import ROUTES as MERCHANTS
from api.routes.operator import ROUTES as OPERATOR
from api.routes.orders import ROUTES as ORDERS
from api.routes.payments import ROUTES as PAYMENTS
from api.routes.products import ROUTES as PRODUCTS

ROUTES: tuple[Route, ...] = (
    *ABOUT,
    *PRODUCTS,
    *CHECKOUTS,
    *ORDERS,
    *PAYMENTS,
    *ACCOUNTS,
    *CATALOG,
    *MERCHANTS,
    *KEYS,
    *OPERATOR,
)
"""A new module of routes is added here."""
