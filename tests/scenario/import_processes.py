"""An import in a process of its own, which a test can kill. In a module, because processes are spawned."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from contracts.settings import Settings
from traffic.retail.importing import import_files


def run_import(paths: Sequence[Path], settings: Settings, progress: Connection) -> None:
    """Import, and send the name of every step that gets on."""
    import_files(paths, settings, lambda step, done, total: progress.send(step), processes=2)
