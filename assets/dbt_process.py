"""dbt in a process of its own, started by Dagster: it holds the writers' lock itself, and ends when its parent ends.

Belongs here: the program between Dagster and dbt's command line. Does not belong here: building in this process
(`derived/warehouse.py`), the locks (`derived/builds.py`).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from contracts.pandas_apart import keep_pandas_out
from derived.builds import writers_lock
from derived.lifeline import end_with_parent

PARENT = "TIEOUT_BUILD_PARENT"
"""Environment variable: the id of the process that holds the build lock and starts dbt."""
CATALOG = "DBT_ENV_SECRET_LAKE_CATALOG"
ROOT = Path(__file__).resolve().parents[1]


def executable(folder: Path) -> Path:
    """Write a program to `folder` that is called like dbt and runs this module; return its path."""
    path = folder / "dbt"
    text = (
        "#!/bin/sh\n"
        f'PYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -P -m assets.dbt_process "$@"\n'
    )
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes may write it at once: rename it into place, so that it is never half written.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o700)
        draft.replace(path)
    return path


def run_as_writer(run: Callable[[], None]) -> None:
    """Run something that writes to the warehouse on behalf of the process that PARENT names, while that process lives.

    If PARENT is not set, no process holds the build lock and nothing is built: for example, dbt is asked its version.
    """
    if PARENT not in os.environ:
        run()
        return
    parent_id = int(os.environ[PARENT])
    end_with_parent(parent_id)
    with writers_lock(os.environ[CATALOG]):
        # Check again, now with the lock: a living parent holds the build lock, so no other builder can start.
        if os.getppid() == parent_id:
            run()


def main() -> None:
    """Run dbt's command line as the writer."""
    keep_pandas_out()
    from dbt.cli.main import cli

    run_as_writer(cli)


if __name__ == "__main__":
    main()
