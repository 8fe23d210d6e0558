"""Which projections there are, and how each is built. Their positions and workers have the same names.

Belongs here: building a projection by its name. Does not belong here: the projections (`derived/`).
"""

from __future__ import annotations

from importlib import import_module

from contracts.errors import SettingsError
from contracts.ownership import FOLLOWERS, KEYED, LAKE, PROJECTED, Copy, absent_copies
from contracts.settings import Settings
from streams.projection import ClosableProjection

PROJECTIONS = tuple(copy.name for copy in PROJECTED)
BUILT_BY_NAME = tuple(copy for copy in FOLLOWERS if copy is not LAKE)
"""Those whose module has a function `build`."""
VIEWS = tuple(copy.name for copy in KEYED)
"""Those that are rebuilt from the lake."""


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
    raise SettingsError(f"There is no projection {name!r}; there are {', '.join(copy.name for copy in FOLLOWERS)}.")


def prepare_projection(name: str, settings: Settings, pod: str) -> None:
    """Do what a copy needs before its consumer begins in a pod after a new version of the code; mostly nothing."""
    for copy in BUILT_BY_NAME:
        if copy.name == name and (prepare := getattr(import_module(copy.module), "prepare", None)) is not None:
            prepare(settings, pod)


def followers(settings: Settings) -> tuple[Copy, ...]:
    """Return the copies of this deployment that follow the log; the cache only where there is one."""
    return tuple(copy for copy in FOLLOWERS if copy.name not in absent_copies(settings))


def observed_projection(name: str, settings: Settings) -> ClosableProjection:
    """Return the projection of that name for whoever asks how far it is; asking changes nothing."""
    for copy in FOLLOWERS:
        if copy.begins_at_end and copy.name == name:
            projection: ClosableProjection = import_module(copy.module).build(settings, is_observed_only=True)
            return projection
    return build_projection(name, settings)
