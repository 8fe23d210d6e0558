"""A system as users start it: by `tieout up`, in a temporary folder, which is deleted afterwards.

Belongs here: starting and stopping it by the product's own commands. Does not belong here: a system without supervision
and pages (`bench/world.py`), what is measured on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.large_pod import fill
from bench.world import trade
from contracts.errors import StackError
from contracts.settings import Settings
from stack.composition.draining import drain_everything
from stack.settings import ROOT, load_settings, without_settings

SEED = 7
COMMAND_SECONDS_MAX = 3_600


@contextmanager
def started_system(
    *, orders: int, has_traffic: bool, large: int = 0, settings: Mapping[str, str] | None = None
) -> Iterator[Settings]:
    """Start a system with some orders, of which everything ties; stop and delete it afterwards.

    `large`: the orders that its first pod has besides; `settings`: those that are not the usual ones.
    """
    folder = Path(tempfile.mkdtemp(prefix="tieout-bench-"))
    folder.chmod(0o711)
    try:
        say("starting a system by `tieout up`")
        tieout(folder, "up", "--detach", *([] if has_traffic else ["--no-traffic"]), settings=settings)
        started = load_settings({"TIEOUT_VAR_DIR": str(folder)})
        trade(started, orders=orders, seed=SEED, processes=0)
        if large:
            _fill(started, large)
        say("comparing everything first")
        tieout(folder, "reconcile")
        yield started
    finally:
        tieout(folder, "down")
        tieout(folder, "reset", "--yes")
        shutil.rmtree(folder, ignore_errors=True)


def _fill(settings: Settings, orders: int) -> None:
    pod = settings.pods[0]
    say(f"placing {orders:,} orders in {pod.pod}")
    fill(pod, orders)
    say("bringing every copy up to date")
    drain_everything(settings)


def tieout(folder: Path, *arguments: str, settings: Mapping[str, str] | None = None) -> None:
    """Run a command of the system in this folder; StackError if it fails. That something differs is no failure."""
    environment = {**without_settings(os.environ), **(settings or {}), "TIEOUT_VAR_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=COMMAND_SECONDS_MAX,
    )
    if done.returncode not in (0, 1):
        raise StackError(f"`tieout {arguments[0]}` failed: {done.stderr.strip()[-800:]}")


def say(text: str) -> None:
    """Print progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)
