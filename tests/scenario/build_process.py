"""A builder in a process of its own that starts a writer and waits: what a test kills.

Belongs here: that process. Called with the DSNs of the control database and the catalog, and a file into which the
writer writes as long as it works.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from assets import dbt_process
from derived.builds import build_lock


def build(control_dsn: str, catalog_dsn: str, beats: str, is_bound: str) -> None:
    """Hold the build lock and have a child write, as a run of Dagster has dbt write."""
    settings = cast("Any", SimpleNamespace(control_dsn=control_dsn, catalog_dsn=catalog_dsn))
    environment = {**os.environ, dbt_process.PARENT: str(os.getpid()), dbt_process.CATALOG: catalog_dsn}
    with build_lock(settings):
        child = subprocess.Popen([sys.executable, "-P", __file__, "write", beats, is_bound], env=environment)
        child.wait()


def write(beats: str, is_bound: str) -> None:
    """Be the writer; unbound, it does not notice that its parent is gone."""
    if is_bound == "unbound":
        dbt_process.end_with_parent = lambda parent_id: None  # type: ignore[attr-defined]

    def work() -> None:
        for _ in range(100):
            with Path(beats).open("a", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.05)

    dbt_process.run_as_writer(work)


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(*sys.argv[2:])
    else:
        write(*sys.argv[2:])
