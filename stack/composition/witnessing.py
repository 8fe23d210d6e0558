"""Composes the witnesses of this deployment.

Belongs here: which witnesses there are, and their first look. Does not belong here: what each looks at, and their loop
(`witness/`), the worker process (`stack/upkeep/worker.py`).
"""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from contracts.settings import Settings
from stack.scrubbing import scrubber

if TYPE_CHECKING:
    from witness.watching import Witness


def build_witnesses(settings: Settings) -> list[Witness]:
    """Return every witness; a database without a role for it has none (`tieout status` says so)."""
    from streams.logs import build_log
    from witness.lake import LakeWitness
    from witness.log import LogWitness
    from witness.oltp import OltpWitness
    from witness.read_models import ReadModelsWitness

    log = build_log(settings)
    found: list[Witness] = [
        LogWitness(
            pod=pod.pod,
            log=log,
            control_dsn=settings.control_dsn,
            pod_dsn=pod.witness_dsn,
            partition_count=settings.partition_count,
        )
        for pod in settings.pods
    ]
    found += [
        OltpWitness(pod=pod.pod, dsn=pod.witness_dsn, control_dsn=settings.control_dsn)
        for pod in settings.pods
        if pod.witness_dsn
    ]
    found.append(
        LakeWitness(
            catalog_dsn=settings.catalog_reader_dsn or settings.catalog_dsn,
            control_dsn=settings.control_dsn,
            data_path=settings.lake_data_path,
        )
    )
    if dsn := settings.read_models_witness_dsn:
        found.append(ReadModelsWitness(dsn=dsn, control_dsn=settings.control_dsn))
    return found


def begin_watching(settings: Settings) -> None:
    """Let each witness look that has never looked, before any worker writes.

    Else the first writes of a new system come before the witness, and it must say that it was blind. One that cannot
    look says why later, in its worker.
    """
    from reconcile.witness_states import witness_states

    known = {(one.witness, one.pod) for one in witness_states(settings.control_dsn) if one.position}
    for witness in build_witnesses(settings):
        with closing(witness), suppress(Exception):
            if (witness.name, witness.pod) not in known:
                witness.look_once()


def run_witnesses(settings: Settings, stop: threading.Event) -> None:
    """Let all witnesses look until `stop` is set."""
    from witness.watching import watch

    watch(build_witnesses(settings), settings.control_dsn, scrubber(settings), stop)
