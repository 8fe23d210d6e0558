"""Settings of a system that nobody has started: the graph can be looked at, and validated, before anything runs.

Belongs here: what stands for servers that are not there. Does not belong here: the settings of a system that was
started (`stack/settings.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from contracts.errors import SettingsError
from contracts.settings import PodSettings, Settings
from stack.settings import FILE_NAME, FILE_SETTING, is_external, load_settings, var_dir

NOWHERE = "service=tieout_is_not_started"
"""Instead of a DSN: libpq says that there is no such service, and so what is to be done."""
NO_LOG = "redis://tieout-is-not-started.invalid/0"


def settings_for_drawing(folder: Path, *, dsn: str = NOWHERE) -> Settings:
    """Return settings with two pods and no servers, and `folder` for runtime files."""
    roles = {f"{role}_dsn": dsn for role in ("owner", "app", "relay", "reader")}
    return Settings(
        var_dir=folder,
        pods=tuple(PodSettings(pod=pod, **roles) for pod in ("pod1", "pod2")),
        log_url=NO_LOG,
        lake_data_path=str(folder / "lake"),
        lake_backup_path=folder / "backup",
        control_dsn=dsn,
        catalog_dsn=dsn,
        read_models_dsn=dsn,
        dagster_dsn=dsn,
    )


def settings_of_graph(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this environment; where nothing was ever started, those for drawing.

    Raises SettingsError when there are settings and they are wrong, or a process of ours lacks those it was told.
    """
    values = dict(os.environ if environment is None else environment)
    try:
        return load_settings(values)
    except SettingsError:
        folder = var_dir(values)
        if is_external(values) or values.get(FILE_SETTING, "").strip() or (folder / FILE_NAME).exists():
            raise
        return settings_for_drawing(folder)
