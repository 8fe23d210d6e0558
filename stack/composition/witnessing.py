"""Composes the witnesses of this deployment.

Belongs here: which witnesses there are. Does not belong here: what each looks at, and their loop (`witness/`), the
worker process (`stack/upkeep/worker.py`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from contracts.settings import Settings
from stack.scrubbing import scrubber

if TYPE_CHECKING:
    from witness.watching import Witness


def build_witnesses(settings: Settings) -> list[Witness]:
    """Return every witness of the deployment; a pod without a role for it has none (`tieout status` says so)."""
    from witness.oltp import OltpWitness

    return [
        OltpWitness(pod=pod.pod, dsn=pod.witness_dsn, control_dsn=settings.control_dsn)
        for pod in settings.pods
        if pod.witness_dsn
    ]


def run_witnesses(settings: Settings, stop: threading.Event) -> None:
    """Let all witnesses look until `stop` is set."""
    from witness.watching import watch

    watch(build_witnesses(settings), settings.control_dsn, scrubber(settings), stop)
