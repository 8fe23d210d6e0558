"""The routes, a module per subject, and the list of all of them.

Belongs here: the list. Does not belong here: what is the same for all routes (`api/dispatch.py`).
"""

from __future__ import annotations

from api.declaring import Route
from api.routes.about import ROUTES as ABOUT
from api.routes.products import ROUTES as PRODUCTS

ROUTES: tuple[Route, ...] = (*ABOUT, *PRODUCTS)
"""A new module of routes is added here."""
