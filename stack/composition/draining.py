"""Draining all pods, once or while a block runs: from every outbox through the log into every projection.

Belongs here: draining over all pods and projections from this process. Does not belong here: draining one pod
(`streams/draining.py`) or one projection (`streams/consumer.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from contracts.errors import RelayBusyError
from contracts.settings import PodSettings, Settings
from stack.composition.projections import build_projection, followers, prepare_projection
from stack.processes.apart import run_apart
from stack.processes.supervision import Supervisor

RELAY_RETRY_SECONDS = 0.2

OnDrained = Callable[[str, int], None]
"""Called with the name of what was drained, e.g. ``lake of pod1``, and the number of events."""


@dataclass(frozen=True, kw_only=True)
class PodDrained:
    """One drained pod: every copy has applied what was committed before the drain."""

    pod: str
    cut: int
    events_published: int
    """Events this drain published; 0 when a running relay did."""
    published_by: str
    applied: dict[str, int]
    """Events this drain applied, by projection; 0 where a running consumer did."""
    parked: dict[str, int]
    """Aggregates with parked events, by projection."""


def drain_everything(settings: Settings, *, on_drained: OnDrained = lambda what, events: None) -> list[PodDrained]:
    """Publish what is committed and apply it to every projection; works with and without running workers.

    Raises PropagationError, one sentence, when a copy cannot apply it.
    """
    with ThreadPoolExecutor(max_workers=max(1, len(settings.pods))) as pool:
        drained = list(pool.map(lambda pod: _drain_pod(pod, settings, on_drained), settings.pods))
    import pyarrow as pa

    # Arrow keeps freed memory for its own later use. The next step uses DuckDB, so we return the memory.
    pa.default_memory_pool().release_unused()
    return drained


def drain_apart(settings: Settings, on_drained: OnDrained) -> list[PodDrained]:
    """Drain all pods in a child process, so that this process uses little memory when it begins a comparison."""
    return run_apart(_drain, settings, on_drained)


def _drain(settings: Settings, on_drained: OnDrained) -> list[PodDrained]:
    return drain_everything(settings, on_drained=on_drained)


def _drain_pod(pod: PodSettings, settings: Settings, on_drained: OnDrained) -> PodDrained:
    from derived.known_cuts import cut_sources_of
    from streams.draining import drain_pod

    copies = followers(settings)
    for copy in copies:
        if copy.begins_at_end:
            # Before anything is published: what is committed now must not lie before their beginning.
            with closing(build_projection(copy.name, settings)) as projection:
                projection.state(pod.pod)
    published = drain_pod(pod, settings, cut_sources=cut_sources_of(settings))
    on_drained(f"outbox of {pod.pod}", published.events_published)
    applied, parked = {}, {}
    for copy in copies:
        applied[copy.name], parked[copy.name] = _apply(copy.name, pod.pod, published.cut, settings)
        on_drained(f"{copy.name.replace('_', ' ')} of {pod.pod}", applied[copy.name])
    return PodDrained(
        pod=pod.pod,
        cut=published.cut,
        events_published=published.events_published,
        published_by=published.published_by,
        applied=applied,
        parked=parked,
    )


def _apply(name: str, pod: str, cut: int, settings: Settings) -> tuple[int, int]:
    from streams.consumer import Consumer
    from streams.logs import build_log

    prepare_projection(name, settings, pod)
    with closing(build_log(settings)) as log, closing(build_projection(name, settings)) as projection:
        result = Consumer(projection, pod, log).drain(until_cut=cut)
    return result.events, result.parked


@contextmanager
def propagating(settings: Settings) -> Iterator[None]:
    """Keep the copies up to date from this process while the block runs; do nothing when workers run.

    A comparison takes cuts, and the copies can only reach them if a relay and consumers run.
    """
    if any(worker.state == "running" for worker in Supervisor(var_dir=settings.var_dir).states()):
        yield
        return
    stop = threading.Event()
    threads = [threading.Thread(target=task, args=(stop,), daemon=True) for task in _followers(settings)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _followers(settings: Settings) -> Iterator[Callable[[threading.Event], None]]:
    for pod in settings.pods:
        yield partial(_relay, pod, settings)
        for copy in followers(settings):
            yield partial(_follow, copy.name, pod.pod, settings)


def _relay(pod: PodSettings, settings: Settings, stop: threading.Event) -> None:
    from derived.known_cuts import cut_sources_of
    from streams.relay import build_relay

    while not stop.is_set():
        try:
            with closing(build_relay(pod, settings, cut_sources=cut_sources_of(settings))) as relay:
                relay.run(stop)
        except RelayBusyError:
            # Another command publishes the pod. That is enough for us, but the command may end, so we try again.
            stop.wait(RELAY_RETRY_SECONDS)


def _follow(name: str, pod: str, settings: Settings, stop: threading.Event) -> None:
    from streams.consumer import run_consumer

    prepare_projection(name, settings, pod)
    with closing(build_projection(name, settings)) as projection:
        run_consumer(projection, pod, settings, stop)
