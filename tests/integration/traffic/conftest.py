from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.settings import PodSettings, Settings
from oltp.directory import migrate_directory
from tests.values import settings_of


@pytest.fixture
def books(pods: tuple[PodSettings, PodSettings], make_database: Callable[..., str], tmp_path: Path) -> Settings:
    """Two pods and the directory: all that traffic needs; the other databases are not there."""
    control_dsn = make_database("tieout_control")
    migrate_directory(control_dsn)
    return settings_of(tmp_path, pods=pods, var_dir=tmp_path / "var", control_dsn=control_dsn)
