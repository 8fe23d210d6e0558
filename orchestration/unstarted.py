"""Settings for a system that was never started, so that the graph can be viewed and validated before anything runs.

Belongs here: placeholders for servers that do not exist yet. Does not belong here: the settings of a system that was
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
"""Used instead of a DSN: libpq's error says that this service does not exist, and its name says that nothing runs."""
NO_LOG = "redis://tieout-is-not-started.invalid/0"


def settings_for_drawing(folder: Path, *, dsn: str = NOWHERE) -> Settings:
    """Return settings with two pods and without servers; `folder` is for runtime files."""
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
    """Return the settings of this environment; if no system was ever started here, the settings for drawing.

    Raises SettingsError if settings exist and are wrong, or if a process was told where its settings are and they are
    missing.
    """
    values = dict(os.environ if environment is None else environment)
    try:
        return load_settings(values)
    except SettingsError:
        folder = var_dir(values)
        if is_external(values) or values.get(FILE_SETTING, "").strip() or (folder / FILE_NAME).exists():
            raise
        return settings_for_drawing(folder)
