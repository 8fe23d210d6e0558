"""The sources of settings: the environment, and the file that the last start of the embedded stack wrote.

Belongs here: reading `TIEOUT_*` from the environment and `settings.env`. Does not belong here: what can be set and its
checks (`contracts/settings.py`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from contracts.errors import SettingsError
from contracts.settings import Settings, parse_settings
from stack.files import write_private

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: where `dbt_project/`, `workspace.yaml` and, unless set otherwise, `var/` are."""

PREFIX = "TIEOUT_"
FILE_NAME = "settings.env"
FILE_SETTING = "TIEOUT_SETTINGS_FILE"
"""Names the file that a process reads instead of `settings.env`; it holds only what the process needs
(`stack/processes/duties.py`)."""
MARKER = "TIEOUT_STACK"
"""Environment variable of every worker: the var folder of its stack. We find leftover processes by it."""


def var_dir(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder of runtime files: ``TIEOUT_VAR_DIR``, or `var/` in the checkout. Absolute."""
    values = os.environ if environment is None else environment
    return Path(values.get("TIEOUT_VAR_DIR", "").strip() or ROOT / "var").absolute()


def is_external(environment: Mapping[str, str] | None = None) -> bool:
    """Return whether the environment names the servers to use; then Tieout starts no servers."""
    values = os.environ if environment is None else environment
    return bool(values.get("TIEOUT_PODS", "").strip())


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without Tieout's settings, for a process that gets its own settings.

    The marker by which we find leftover processes is not a setting, so it stays.
    """
    return {name: value for name, value in environment.items() if name == MARKER or not name.startswith(PREFIX)}


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the environment, completed from the file that the embedded stack wrote at its last start.

    Raises SettingsError, one sentence, when neither of them names the servers or a value is wrong.
    """
    values = dict(os.environ if environment is None else environment)
    folder = var_dir(values)
    given = {name: value for name, value in values.items() if name.startswith(PREFIX)}
    if not is_external(values):
        own = values.get(FILE_SETTING, "").strip()
        stored = read_settings_file(Path(own)) if own else read_settings_file(folder / FILE_NAME)
        if not stored:
            raise SettingsError("Tieout has not been started here yet: run `make run` or `tieout up` first.")
        given = {**stored, **given}
    settings = parse_settings({**given, "TIEOUT_VAR_DIR": str(folder)})
    # Imported here, because the modules import the client of the servers, which many programs do not need.
    from derived.answer_cache.caches import check_cache_url
    from streams.logs import check_url

    check_url(settings.log_url)
    check_cache_url(settings.cache_url)
    return settings


def read_settings_file(path: Path) -> dict[str, str]:
    """Return the settings in a file (lines ``NAME=value``), empty when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise SettingsError(f"{path} belongs to another user; run Tieout as the one who started it.") from None
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def write_settings_file(folder: Path, values: Mapping[str, str], *, name: str = FILE_NAME) -> None:
    """Store `values` in the file of that name in `folder`; it holds passwords, so only its owner may read it (0600)."""
    lines = ["# Written at every start of the embedded stack; changes are lost. Holds passwords."]
    lines += [f"{name}={value}" for name, value in values.items()]
    write_private(folder / name, "\n".join(lines) + "\n")
