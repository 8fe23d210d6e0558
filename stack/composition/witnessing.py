"""Composes the witnesses of this deployment.

Belongs here: which witnesses there are, and their first look. Does not belong here: what each looks at, and their loop
(`witness/`), the worker process (`stack/upkeep/worker.py`).
"""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from contracts.ownership import ANSWER_CACHE, CART
from contracts.settings import Settings
from stack.scrubbing import scrubber

ANSWER_SECONDS = 5.0

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return [*found, *_of_serving(settings)]


def _of_serving(settings: Settings) -> Iterator[Witness]:
    """Yield the witnesses of what serves shoppers: the servers that there are, and every pod's search index."""
    from derived.answer_cache.valkey_cache import ValkeyAnswerCache
    from derived.search.folders import PodFolder, base_folder
    from oltp.carts.valkey_server import CartServer
    from witness.search import SearchWitness
    from witness.servers import ServerWitness

    for pod in settings.pods:
        folder = PodFolder(base_folder(settings), pod.pod)
        yield SearchWitness(pod=pod.pod, control_dsn=settings.control_dsn, folder=folder.current)
    if settings.carts_url:
        carts = CartServer(settings.carts_url)
        yield ServerWitness(
            name="carts", copy=CART.name, control_dsn=settings.control_dsn, ask=carts.look, let_go=carts.close
        )
    if settings.cache_url:
        cache = ValkeyAnswerCache(settings.cache_url, answer_seconds=ANSWER_SECONDS)
        yield ServerWitness(
            name="cache",
            copy=ANSWER_CACHE.name,
            control_dsn=settings.control_dsn,
            ask=cache.server_look,
            let_go=cache.close,
        )


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
