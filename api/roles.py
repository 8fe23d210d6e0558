"""Who may ask a route, as sets of roles with a name.

Belongs here: these sets. Does not belong here: which route is for whom (the routes say so).
"""

from __future__ import annotations

from api.declaring import Role

STOREFRONTS = frozenset({Role.STOREFRONT})
ADMINS = frozenset({Role.ADMIN})
SELLERS = STOREFRONTS | ADMINS
"""Either role of a merchant."""
OPERATORS = frozenset({Role.OPERATOR})
