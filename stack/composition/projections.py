"""Which projections there are, and how each is built. Their positions and workers have the same names.

Belongs here: building a projection by its name. Does not belong here: the projections (`derived/`).
"""

from __future__ import annotations

from importlib import import_module

from contracts.errors import SettingsError
from contracts.ownership import ANSWER_CACHE, LAKE, PROJECTED, READ_MODELS
from contracts.settings import Settings
from streams.projection import ClosableProjection

PROJECTIONS = tuple(copy.name for copy in PROJECTED)
BUILT_BY_NAME = (*READ_MODELS, ANSWER_CACHE)
"""Those whose module has a function `build`."""
VIEWS = tuple(copy.name for copy in READ_MODELS)


def build_projection(name: str, settings: Settings) -> ClosableProjection:
    """Return the projection of that name; import only its modules, because each worker runs one projection."""
    if name == LAKE.name:
        from derived.lake import LakeProjection
        from derived.lake_connection import bounds_of

        return LakeProjection(settings.catalog_dsn, settings.lake_data_path, bounds=bounds_of(settings))
    for copy in BUILT_BY_NAME:
        if copy.name == name:
            projection: ClosableProjection = import_module(copy.module).build(settings)
            return projection
    raise SettingsError(f"There is no projection {name!r}; there are {', '.join(PROJECTIONS)}.")
