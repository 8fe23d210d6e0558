"""The life cycle of the system: starting workers and Dagster's pages, restarting what has ended, deleting all data.

Belongs here: what `tieout up`, `down` and `reset` do. Does not belong here: one pass over the data (`cli/run.py`),
which process stops the servers (`stack/composition/session.py`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from contracts.errors import InputError, StackError
from contracts.progress import Progress
from contracts.runs import REPAIRER
from contracts.settings import Settings
from contracts.waiting import wait_until
from stack import files, ports, settings
from stack.composition import session
from stack.composition.keys import make_first_keys
from stack.composition.migrations import migrate_everything
from stack.composition.witnessing import begin_watching
from stack.looking.outages import outage
from stack.processes import restarts, stopped, tracking
from stack.processes.api_address import api_url, choose_port, is_ready, store_address, stored_address
from stack.processes.dagster_database import migrate_dagster
from stack.processes.dagster_home import code_locations, write_dagster_home
from stack.processes.dagster_pages import Pages
from stack.processes.data_docs import forget_address
from stack.processes.supervision import Supervisor
from stack.processes.suspended import SuspendedWatch
from stack.processes.workers import (
    api_programs,
    carts_program,
    dagster_programs,
    data_docs_program,
    propagation_programs,
    reconciler_program,
    traffic_program,
    upkeep_program,
    witness_program,
)
from stack.scrubbing import scrubber
from stack.servers.embedded import embedded_servers
from stack.settings import ROOT

DAGSTER_PORT = 3000
"""The preferred port; we take another one when it is not free."""

PAGES_TIMEOUT_SECONDS = 180.0
PAGES_LOOK_SECONDS = 0.5
WATCH_SECONDS = 2.0
API_TIMEOUT_SECONDS = 60.0
GENERATED = (
    *(
        "api",
        "backup",
        "dagster",
        "data_docs",
        "dbt",
        "drills",
        "imports",
        "memory",
        "refusals",
        "scratch",
        "search",
        "supervisor",
    ),
    "watch",
)
"""Folders in `var` that `reset` deletes, besides those of the servers."""


@contextmanager
def workers(values: Settings, *, has_traffic: bool = True, has_pages: bool = True) -> Iterator[Pages | None]:
    """Run all workers while the block runs; yield Dagster's pages, or None without them."""
    # Workers that a killed process left behind would compete with ours, and they hold their ports.
    stop_workers(values.var_dir)
    started_at = time.time()
    port = _pages_port(values) if has_pages else None
    try:
        start_workers(values, has_traffic=has_traffic, pages_port=port)
        yield None if port is None else Pages(address=_address(port), started_at=started_at)
    finally:
        with session.uninterrupted():
            stop_workers(values.var_dir)


def start_workers(values: Settings, *, has_traffic: bool, pages_port: int | None) -> None:
    """Stop running workers, then start all workers under a new supervisor, Dagster's pages on the given port."""
    # Stop them before we look for ports: they hold their ports, so addresses would change.
    stop_workers(values.var_dir)
    programs = [*propagation_programs(values), upkeep_program(values, is_alone=pages_port is None)]
    programs.append(witness_program(values))
    programs += [carts_program(values)] if values.carts_url else []
    api_port = choose_port(values)
    store_address(values, api_port)
    programs += api_programs(values, port=api_port)
    if values.reconciler_cpu_percent:
        programs.append(reconciler_program(values))
    if has_traffic:
        programs.append(traffic_program(values))
    url = values.var_dir / "dagster" / "url"
    if pages_port is None:
        url.unlink(missing_ok=True)
        forget_address(values)
    else:
        write_dagster_home(values)
        files.write_private(url, f"{_address(pages_port)}\n")
        files.write_private(url.with_name("port"), f"{pages_port}\n")
        programs += dagster_programs(values, workspace=ROOT / "workspace.yaml", port=pages_port)
        programs.append(data_docs_program(values, port=ports.free_port(pages_port + 1)))
    Supervisor(var_dir=values.var_dir).start(programs, directory=ROOT)


def _address(port: int) -> str:
    return f"http://{ports.LOOPBACK}:{port}"


def _pages_port(values: Settings) -> int:
    """Return the port of the pages: the last one if it is free, so that bookmarks stay valid, else DAGSTER_PORT."""
    try:
        last = int((values.var_dir / "dagster" / "port").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        last = DAGSTER_PORT
    port = ports.free_port(last)
    return port if port == last else ports.free_port(DAGSTER_PORT)


def stop_workers(folder: Path) -> None:
    """Stop the supervisor and all its workers, and workers that lost their supervisor."""
    Supervisor(var_dir=folder).stop()
    session.stop_marked(folder)


def wait_for_pages(pages: Pages, progress: Progress) -> bool:
    """Wait until Dagster's pages can be used, and say what is missing; return False after PAGES_TIMEOUT_SECONDS.

    A timeout does not mean a failure: on a busy machine the pages need more time.
    """
    deadline = time.monotonic() + PAGES_TIMEOUT_SECONDS
    with progress.step("Waiting for Dagster's pages") as step:
        while missing := pages.missing():
            step.say(missing)
            if time.monotonic() > deadline:
                step.give_up(missing)
                return False
            time.sleep(PAGES_LOOK_SECONDS)
    return True


def wait_for_api(values: Settings, progress: Progress) -> bool:
    """Wait until the HTTP interface answers, and print where; return False after API_TIMEOUT_SECONDS."""
    address, deadline = api_url(values) or "", time.monotonic() + API_TIMEOUT_SECONDS
    while not is_ready(address):
        if time.monotonic() > deadline:
            progress.note(f"The HTTP interface at {address} does not answer yet; `tieout status` says why.")
            return False
        time.sleep(PAGES_LOOK_SECONDS)
    progress.note(f"HTTP interface: {address}/v1 (`tieout keys` shows the keys to ask it with)")
    return True


def reload_code(values: Settings) -> list[str]:
    """Restart Dagster's code servers and the repairer with the present code; return the names of the servers.

    StackError when none run.
    """
    url = values.var_dir / "dagster" / "url"
    if session.resident(values.var_dir) is None or not url.exists():
        raise StackError("Dagster's pages do not run here; the code is loaded when `tieout up` starts them.")
    names = [location.name for location in code_locations(ROOT / "workspace.yaml", values.var_dir / "dagster")]
    Pages(address=url.read_text(encoding="utf-8").strip(), started_at=0.0).reload(names)
    Supervisor(var_dir=values.var_dir).signal_worker(REPAIRER, "HUP")
    return names


def run_until_interrupted(progress: Progress, *, has_traffic: bool, has_pages: bool) -> None:
    """Start servers, migrate, and run all workers until Ctrl-C or a signal; then stop everything that it started."""
    with session.ended_by_signals(), session.residence(settings.var_dir()), session.open_session(progress) as values:
        with progress.step("Migrating"):
            migrate_everything(values)
        keep_up(values, progress, has_traffic=has_traffic, has_pages=has_pages)


def keep_up(values: Settings, progress: Progress, *, has_traffic: bool, has_pages: bool) -> None:
    """Run all workers over running servers until Ctrl-C or a signal."""
    make_first_keys(values)
    if has_pages:
        migrate_dagster(values, progress)
    supervisor = Supervisor(var_dir=values.var_dir)
    restarts.begin_counting(supervisor.folder, supervisor.log)
    begin_watching(values)
    with workers(values, has_traffic=has_traffic, has_pages=has_pages) as pages:
        progress.note(f"Workers run; their logs are in {values.var_dir / 'logs'}.")
        wait_for_api(values, progress)
        awaited = None
        if pages is not None and wait_for_pages(pages, progress):
            progress.note(f"Dagster: {pages.address}")
        elif pages is not None:
            awaited = pages
            progress.note(
                f"Dagster's pages are not ready yet: {pages.missing()}. Everything else works; their address is "
                "printed here as soon as they are."
            )
        progress.note("Look with `tieout status`. Ctrl-C stops everything.")
        port = None if pages is None else int(pages.address.rpartition(":")[2])
        _watch(values, progress, has_traffic=has_traffic, pages_port=port, awaited=awaited)


def _watch(
    values: Settings, progress: Progress, *, has_traffic: bool, pages_port: int | None, awaited: Pages | None = None
) -> NoReturn:
    """Restart what has ended, until this process ends. Report a failure (e.g. a full disk) once, and try again.

    `awaited`: Dagster's pages that are not ready yet; their address is printed when they can be used.
    """
    trouble, suspended = "", SuspendedWatch(supervisor=Supervisor(var_dir=values.var_dir))
    while True:
        time.sleep(WATCH_SECONDS)
        try:
            values = mend(values, has_traffic=has_traffic, pages_port=pages_port, is_doubtful=bool(trouble))
            for name in suspended.look_if_due():
                with suppress(OSError):
                    progress.note(f"Worker {name} was suspended, and nobody resumed it. It is started again.")
            found = ""
        except Exception as error:
            found = str(error) if isinstance(error, StackError) else outage(error) or ""
            if not found:
                raise
        if found != trouble:
            _tell(values, found)
        if bool(found) != bool(trouble):
            with suppress(OSError):  # the output may go to the full disk
                progress.note(f"{found} Tried again until it holds." if found else "Everything runs again.")
        trouble = found
        if awaited is not None and not awaited.missing():
            progress.note(f"Dagster: {awaited.address}")
            awaited = None


def _tell(values: Settings, trouble: str) -> None:
    """Store for `tieout status` and alerts why a restart fails now, or delete the reason when it works again."""
    if trouble:
        stopped.note(values.var_dir, stopped.SERVERS, scrubber(values)(trouble))
    else:
        stopped.take_back(values.var_dir, stopped.SERVERS)


def mend(values: Settings, *, has_traffic: bool, pages_port: int | None, is_doubtful: bool = False) -> Settings:
    """Restart embedded servers or the supervisor if they have ended, and return the present settings.

    A deleted file of settings is also written again. When a server has a new address, the workers are restarted,
    because they keep the old address.

    `is_doubtful`: the last attempt failed, so servers may run whose addresses are not in the settings yet.
    """
    now = _with_servers(values, is_doubtful=is_doubtful)
    if now != values or not Supervisor(var_dir=values.var_dir).is_running():
        start_workers(now, has_traffic=has_traffic, pages_port=pages_port)
    return now


def _with_servers(values: Settings, *, is_doubtful: bool) -> Settings:
    if settings.is_external():
        return values
    servers, file = embedded_servers(values.var_dir), values.var_dir / settings.FILE_NAME
    # Without this file no command finds the running servers.
    is_known = file.exists() and file.stat().st_size > 0
    if not is_doubtful and is_known and len(servers.running()) == len(servers.all):
        return values
    ended = {server.name for server in servers.all} - set(servers.running())
    with session.starting_alone(values.var_dir):
        settings.write_settings_file(values.var_dir, servers.start())
    restarts.note_servers(Supervisor(var_dir=values.var_dir).folder, ended)
    return settings.load_settings()


def start_in_background(progress: Progress, arguments: list[str]) -> int:
    """Start `tieout up` in the background and wait until its workers run; return its process id."""
    folder = settings.var_dir()
    session.refuse_second_resident(folder)
    log = folder / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    files.rotate(log)
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            start_new_session=True,
        )

    def is_up() -> bool:
        if child.poll() is not None:
            raise StackError(f"{files.tail(log) or 'Tieout ended at once.'} The log is {log}.")
        states = Supervisor(var_dir=folder).states()
        are_running = bool(states) and all(worker.state == "running" for worker in states)
        return are_running and (address := stored_address(folder)) is not None and is_ready(address)

    with progress.step("Starting Tieout in the background"):
        wait_until(
            is_up, timeout_seconds=PAGES_TIMEOUT_SECONDS, failure=lambda: f"Tieout is not up yet; the log is {log}."
        )
    tracking.release(child)
    return child.pid


def deletable() -> Path:
    """Return the folder whose data `reset` deletes; InputError for servers that are not Tieout's own."""
    if settings.is_external():
        raise InputError("The servers are named by TIEOUT_PODS and are not Tieout's own: delete their data yourself.")
    return settings.var_dir()


def bytes_by_folder(folder: Path) -> dict[str, int]:
    """Return the bytes in each folder in `folder`."""
    found = {}
    for one in sorted(folder.iterdir()) if folder.is_dir() else ():
        # Running servers create and delete files meanwhile.
        sizes = (path.lstat().st_size for path in one.rglob("*") if path.is_file())
        with suppress(OSError):
            found[one.name] = sum(sizes)
    return {name: size for name, size in found.items() if size}


def reset() -> list[str]:
    """Stop everything and delete all data in `var`; return what was stopped. InputError for external servers."""
    folder = deletable()
    stopped = session.stop_everything(folder)
    if session.is_drilling(folder):
        raise StackError("A drill is under way here (`tieout drill`): stop it, or wait until it has ended, then reset.")
    embedded_servers(folder).wipe()
    for name in GENERATED:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in _files_of(folder):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder / "logs", ignore_errors=True)
    return stopped


def _files_of(folder: Path) -> Iterator[Path]:
    yield folder / settings.FILE_NAME
    yield from folder.glob("*.lock")
