"""A worker process: ``python -m stack.upkeep.worker relay --pod pod1``, run by the supervisor until it is told to stop.

Belongs here: arguments, signals and the end of a worker. Does not belong here: the work (`streams/`, `derived/`,
`traffic/`); each worker imports only the modules of its work.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from contracts.errors import TieoutError
from contracts.ownership import FOLLOWERS, WEBHOOKS, copy_named
from contracts.pandas_apart import keep_pandas_out
from contracts.settings import Settings
from contracts.text import one_line
from stack.composition.projections import build_projection, prepare_projection
from stack.composition.session import ended_by_signals
from stack.files import keep_private
from stack.processes import stopped
from stack.settings import load_settings, var_dir
from stack.upkeep.growth import begin_anew

PARENT_LOOK_SECONDS = 1.0

REFUSAL_SECONDS = 15.0
"""A worker that cannot continue waits this long before it ends, so that the supervisor restarts it less often."""


PROGRAM_NAME = "SUPERVISOR_PROCESS_NAME"
"""The environment variable in which supervisord gives each program its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one worker until SIGTERM; return the exit code (1: it could not continue, and the log says why)."""
    options = _parser().parse_args(arguments)
    keep_private()
    keep_pandas_out()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.kind == "once":
        return _once(options.routine)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=stop_without_parent, args=(stop, os.getppid()), daemon=True).start()
    try:
        _work(options, load_settings(), stop)
    except TieoutError as error:
        logging.getLogger("tieout.worker").error("%s", error)
        if name := os.environ.get(PROGRAM_NAME):
            stopped.note(var_dir(), name, one_line(error))
        stop.wait(REFUSAL_SECONDS)
        return 1
    return 0


def _work(options: argparse.Namespace, settings: Settings, stop: threading.Event) -> None:
    if options.kind == "relay":
        from derived.known_cuts import cut_sources_of
        from streams.relay import build_relay

        build_relay(settings.pod(options.pod), settings, cut_sources=cut_sources_of(settings)).run(stop)
    elif options.kind == "consumer" and options.projection == WEBHOOKS.name:
        from stack.upkeep.webhook_sending import run_webhooks

        run_webhooks(settings, settings.pod(options.pod).pod, stop)
    elif options.kind == "consumer":
        from streams.consumer import run_consumer

        prepare_projection(options.projection, settings, options.pod)
        projection = build_projection(options.projection, settings)
        copy = copy_named(options.projection)
        run_consumer(
            projection,
            settings.pod(options.pod).pod,
            settings,
            stop,
            group_window_seconds=copy.commit_seconds,
            events_max=copy.step_events_max,
        )
    elif options.kind == "reconciler":
        from stack.upkeep.reconciler_lanes import run_reconciler

        if run_reconciler(settings, stop):
            begin_anew("stack.upkeep.worker", "reconciler")
    elif options.kind == "upkeep":
        from stack.upkeep.loops import run_upkeep

        if run_upkeep(settings, stop, is_alone=options.alone):
            begin_anew("stack.upkeep.worker", "upkeep", "--alone")
    elif options.kind == "carts":
        from stack.upkeep.cart_keeping import run_carts

        run_carts(settings, stop)
    elif options.kind == "api":
        from stack.upkeep.serving import run_api

        run_api(settings, stop, port=options.port)
    elif options.kind == "witness":
        from stack.composition.witnessing import run_witnesses

        run_witnesses(settings, stop)
    else:
        from traffic.live import run_live

        run_live(settings, stop, orders_per_second=options.rate)


def _once(name: str) -> int:
    """Run one routine, and return the exit code; a signal or the end of the parent process ends it."""
    from derived.lifeline import end_with_parent
    from stack.scrubbing import scrubber
    from stack.upkeep.routine import ROUTINES

    end_with_parent(os.getppid())
    settings = load_settings()
    try:
        with ended_by_signals():
            ROUTINES[name](settings)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # any error: log it without passwords; the next run may succeed
        said = scrubber(settings)(f"{type(error).__name__}: {error}")
        logging.getLogger("tieout.worker").error("%s: %s", name, said)
        return 1
    return 0


def stop_without_parent(stop: threading.Event, parent: int) -> None:
    """End this worker when the supervisor was killed, because no other process would end it."""
    while not stop.wait(PARENT_LOOK_SECONDS):
        if os.getppid() != parent:
            stop.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack.upkeep.worker", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    relay = kinds.add_parser("relay", help="publish one pod's outbox to the log")
    relay.add_argument("--pod", required=True)
    consumer = kinds.add_parser("consumer", help="apply one pod's log to one projection")
    consumer.add_argument("--pod", required=True)
    consumer.add_argument("--projection", required=True, choices=[copy.name for copy in FOLLOWERS])
    traffic = kinds.add_parser("traffic", help="place orders all the time")
    traffic.add_argument("--rate", type=float, default=2.0, help="orders per second over all merchants")
    upkeep = kinds.add_parser("upkeep", help="tell people of outages and incidents")
    upkeep.add_argument("--alone", action="store_true", help="also do what Dagster's schedules do otherwise")
    kinds.add_parser("carts", help="write carts through to their pods, compare both stores, expire carts")
    api = kinds.add_parser("api", help="serve the HTTP interface")
    api.add_argument("--port", type=int, required=True)
    kinds.add_parser("witness", help="see who writes past the rules")
    kinds.add_parser("reconciler", help="compare all the time, within a share of one processor")
    once = kinds.add_parser("once", help="do one thing of the timetable, and end")
    once.add_argument("--routine", required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
