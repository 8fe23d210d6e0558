"""Which workers keep the copies up to date, and how each is started.

Belongs here: the list. Does not belong here: what a worker does (`stack/upkeep/worker.py`), restarting it
(`stack/processes/supervision.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from contracts.ownership import FOLLOWERS, WEBHOOKS, absent_copies
from contracts.runs import REPAIRER
from contracts.settings import Settings
from stack.ports import LOOPBACK
from stack.processes.dagster_home import CodeLocation, code_locations, dagster_environment, write_workspace
from stack.processes.data_docs import write_data_docs_site
from stack.processes.duties import (
    api_settings,
    carts_settings,
    consumer_settings,
    display_settings,
    graph_settings,
    reconciler_settings,
    relay_settings,
    traffic_settings,
    upkeep_settings,
    witness_settings,
    write_duty,
)
from stack.processes.supervision import Program
from stack.settings import ROOT

TRAFFIC = "traffic"
UPKEEP = "upkeep"
WITNESS = "witness"
CARTS = "cart-writer"
"""Another name than the server's, because both have a log of their name."""
RECONCILER = "reconciler"
API = "api"


def propagation_programs(settings: Settings) -> list[Program]:
    """Return one relay per pod and one consumer per projection and pod."""
    programs = []
    for pod in settings.pods:
        told = relay_settings(settings, pod.pod)
        programs.append(_worker(settings, f"relay-{pod.pod}", told, "relay", "--pod", pod.pod))
        for copy in FOLLOWERS:
            if copy.name in absent_copies(settings):
                continue
            name = f"{copy.name.replace('_', '-')}-{pod.pod}"
            told = consumer_settings(settings, copy.name)
            program = _worker(settings, name, told, "consumer", "--projection", copy.name, "--pod", pod.pod)
            # A stopped sender waits for the answers to what it has sent.
            patience = settings.webhook_timeout_seconds + 5
            programs.append(replace(program, stop_seconds=patience) if copy is WEBHOOKS else program)
    return programs


def traffic_program(settings: Settings, *, orders_per_second: float | None = None) -> Program:
    """Return the worker that places orders all the time, at `orders_per_second` or else at its default rate."""
    pace = [] if orders_per_second is None else ["--rate", str(orders_per_second)]
    return _worker(settings, TRAFFIC, traffic_settings(settings), "traffic", *pace)


def upkeep_program(settings: Settings, *, is_alone: bool) -> Program:
    """Return the worker that sends alerts about outages and incidents.

    `is_alone`: there is no Dagster, so the worker also does the work of Dagster's schedules.
    """
    arguments = ["--alone"] if is_alone else []
    # At its end the worker waits until its routines have ended.
    program = _worker(settings, UPKEEP, upkeep_settings(settings), "upkeep", *arguments)
    return replace(program, stop_seconds=30)


def carts_program(settings: Settings) -> Program:
    """Return the worker that writes carts through to their pods, compares both stores and expires carts."""
    # A stopped writer writes what waits.
    return replace(_worker(settings, CARTS, carts_settings(settings), "carts"), stop_seconds=20)


def witness_program(settings: Settings) -> Program:
    """Return the worker in which all witnesses look at their stores."""
    return _worker(settings, WITNESS, witness_settings(settings), "witness")


def reconciler_program(settings: Settings) -> Program:
    """Return the worker that compares all the time."""
    return _worker(settings, RECONCILER, reconciler_settings(settings), "reconciler")


def api_programs(settings: Settings, *, port: int) -> list[Program]:
    """Return the workers that serve the HTTP interface, all on `port` of loopback."""
    names = [API, *(f"{API}-{number}" for number in range(2, settings.api_processes + 1))]
    return [_worker(settings, name, api_settings(settings), "api", "--port", str(port)) for name in names]


def dagster_programs(settings: Settings, *, workspace: Path, port: int) -> list[Program]:
    """Return Dagster's webserver (on `port`, loopback), daemon, the code servers of `workspace` that both use, and the
    worker that repairs in its own process.
    """
    common = dagster_environment(settings)
    graph = {**common, **write_duty(settings, "graph", graph_settings(settings))}
    display = {**common, **write_duty(settings, "display", display_settings(settings))}
    home = settings.var_dir / "dagster"
    locations = code_locations(workspace, home)
    shared = write_workspace(locations, home)
    webserver = ["dagster_webserver", "--workspace", str(shared), "--host", LOOPBACK, "--port", str(port)]
    # With the default of 15 s, a page with a slow query shows an error.
    webserver += ["--db-statement-timeout", "60000"]
    daemon = ["dagster._daemon", "run", "--workspace", str(shared)]
    return [
        *(_code_server(location, graph) for location in locations),
        # A stopped repairer waits for its repairs.
        Program(name=REPAIRER, command=_python("orchestration.repairer"), environment=graph, stop_seconds=30),
        Program(name="dagster-webserver", command=_python(*webserver), environment=display),
        Program(name="dagster-daemon", command=_python(*daemon), environment=display, stop_seconds=30),
    ]


def data_docs_program(settings: Settings, *, port: int) -> Program:
    """Return the worker that serves the pages of Great Expectations (on `port`, loopback)."""
    site = write_data_docs_site(settings, port)
    command = ["http.server", "--bind", LOOPBACK, "--directory", str(site), str(port)]
    return Program(name="data-docs", command=_python(*command))


def _code_server(location: CodeLocation, environment: Mapping[str, str]) -> Program:
    command = ["dagster", "api", "grpc", "--module-name", location.module, "--attribute", location.attribute]
    command += ["--socket", str(location.socket), "--location-name", location.name, "--working-directory", str(ROOT)]
    name = f"dagster-code-{location.name}"
    # A stopped code server waits for its runs.
    return Program(name=name, command=_python(*command), environment=environment, stop_seconds=30)


def _worker(settings: Settings, name: str, told: Mapping[str, str], *arguments: str) -> Program:
    environment = write_duty(settings, name, told)
    return Program(name=name, command=_python("stack.upkeep.worker", *arguments), environment=environment)


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", *arguments]
