"""A repair in a process of its own that ends itself at one step, as a power cut would: SIGKILL, nothing runs after it.

Started by a fork server that has imported all of this already, so that each costs no more than what it does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.context import ForkServerContext

from contracts.progress import SILENT
from contracts.settings import Settings, as_values
from repair.repair_run import repair_breaks
from repair.values import Budget
from stack.composition.repairing import repairing_tools

NAME = "tests.scenario.repair_process"


def starter() -> ForkServerContext:
    """Return what starts such processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([NAME])
    return context


def repair_until(settings: Settings, step: str, run: str) -> None:
    """Repair everything, and end at the first `step`."""

    def on_step(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    # The fork server is older than the settings; the process that builds the warehouse has them from here.
    os.environ.update(as_values(settings))
    with repairing_tools(settings, SILENT, is_propagated=False, on_step=on_step) as tools:
        repair_breaks(tools, budget=Budget(actions_max=10_000), run=run)
