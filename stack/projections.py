"""Which projections there are, and how each is built: the names are those of their positions and workers.

Belongs here: the list. Does not belong here: the projections (`derived/`).
"""

from __future__ import annotations

from contracts.errors import SettingsError
from contracts.settings import Settings
from streams.projection import ClosableProjection

PROJECTIONS = ("lake", "account_view", "fulfillment_view")


def build_projection(name: str, settings: Settings) -> ClosableProjection:
    """Return the projection of that name; imports only what it needs, since each worker runs one."""
    if name == "lake":
        from derived.lake import LakeProjection
        from derived.lake_connection import bounds_of

        return LakeProjection(settings.catalog_dsn, settings.lake_data_path, bounds=bounds_of(settings))
    if name == "account_view":
        from derived.read_models.account import build_account_view

        return build_account_view(settings)
    if name == "fulfillment_view":
        from derived.read_models.fulfillment import build_fulfillment_view

        return build_fulfillment_view(settings)
    raise SettingsError(f"There is no projection {name!r}; there are {', '.join(PROJECTIONS)}.")
