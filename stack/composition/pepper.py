"""The pepper of a system: the secret from which those of API keys, cursors and webhooks are computed.

Belongs here: where it is kept. Does not belong here: what is computed from it (`api/signing.py`).
"""

from __future__ import annotations

from contracts.settings import Settings
from stack import files

FOLDER = "api"


def pepper_of(values: Settings) -> str:
    """Return the pepper: the setting, or a generated one that is stored for its owner only."""
    return values.api_pepper or files.stored_password(values.var_dir / FOLDER / "pepper")
