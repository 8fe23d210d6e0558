"""Sessions: which processes use the embedded stack now, and which of them stops it.

Every command that needs the servers opens a session. The first session starts the servers, the last one stops them.
Each session holds a shared file lock, which the operating system releases when a process is killed. Belongs here:
sessions, and the one resident process (`make run`, `tieout up`). Does not belong here: the servers
(`stack/servers/embedded.py`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from contracts.errors import SettingsError, StackError
from contracts.progress import Progress
from contracts.settings import Settings
from contracts.text import counted
from stack import settings
from stack.processes import tracking
from stack.servers.embedded import DRILLS, embedded_servers

STOP_TIMEOUT_SECONDS = 90.0

DRILLS_FOLDER, DRILL_LOCK, DRILLED_SYSTEM = DRILLS, "drill.lock", "system"
"""In a var folder: the folder of drills with their evidence, and in it the lock of the running drill and its system."""


@contextmanager
def open_session(progress: Progress) -> Iterator[Settings]:
    """Yield the settings of the servers that the environment names, or start the embedded servers and yield theirs."""
    if settings.is_external():
        yield settings.load_settings()
        return
    folder = settings.var_dir()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "users.lock", fcntl.LOCK_SH) as users:
        try:
            servers = embedded_servers(folder)
            is_said = len(servers.running()) < len(servers.all)
            said = progress.step("Starting PostgreSQL and Valkey") if is_said else nullcontext()
            with said, starting_alone(folder):
                settings.write_settings_file(folder, servers.start())
            yield settings.load_settings()
        finally:
            with uninterrupted(), starting_alone(folder):
                if _lock(users, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    # This is the last session.
                    embedded_servers(folder).stop()


@contextmanager
def starting_alone(folder: Path) -> Iterator[None]:
    """Hold the exclusive lock for starting and stopping the servers of `folder`; wait for it."""
    with _locked(folder / "start.lock", fcntl.LOCK_EX):
        yield


@contextmanager
def residence(folder: Path) -> Iterator[None]:
    """Hold the lock of the resident process of `folder`, which keeps the stack up; StackError when there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "resident.lock"
    with path.open("a+") as file:
        if not _lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise _already_running(tracking.read_process_id(path))
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def refuse_second_resident(folder: Path) -> None:
    """Raise StackError when a process keeps the stack of `folder` up."""
    process = resident(folder)
    if process is not None:
        raise _already_running(process.pid)


def _already_running(process_id: int | None) -> StackError:
    return StackError(
        f"Tieout is already running here (process {process_id}): "
        "look at it with `tieout status`, stop it with `tieout down`."
    )


def resident(folder: Path) -> psutil.Process | None:
    """Return the process that keeps the stack of `folder` up, or None."""
    path = folder / "resident.lock"
    if not path.exists():
        return None
    with path.open("r") as file:
        if _lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
            return None
    return tracking.find(tracking.read_process_id(path))


def settings_here() -> Settings:
    """Return the settings of the stack that was started here, for a command that starts nothing.

    SettingsError says whether the stack was never started, or runs but lost its file of settings.
    """
    folder = settings.var_dir()
    if settings.is_external() or settings.read_settings_file(folder / settings.FILE_NAME):
        return settings.load_settings()
    if found := _running_here(folder):
        keeper = resident(folder)
        remedy = (
            "the process that keeps it up writes it again: try again in a few seconds"
            if keeper is not None
            else "`tieout up` writes it again and goes on with what runs, `tieout down` stops it"
        )
        raise SettingsError(
            f"Tieout runs here ({', '.join(found)}), but {folder / settings.FILE_NAME}, by which commands find it, is "
            f"gone or empty; {remedy}."
        )
    return settings.load_settings()


def _running_here(folder: Path) -> list[str]:
    """Return in words what runs of the stack of `folder`: the resident process, servers, workers."""
    keeper, workers = resident(folder), tracking.marked(folder)
    found = [f"kept up by process {keeper.pid}"] if keeper is not None else []
    found += embedded_servers(folder).running()
    return [*found, counted(len(workers), "worker")] if workers else found


def stop_everything(folder: Path) -> list[str]:
    """Stop the resident process of `folder`, then the rest of the stack; return what was stopped, in words."""
    stopped = []
    process = resident(folder)
    if process is not None:
        if not tracking.stop(process, signals=((signal.SIGTERM, STOP_TIMEOUT_SECONDS), (signal.SIGKILL, 5.0))):
            raise StackError(f"Process {process.pid}, which keeps Tieout up, does not stop; end it yourself.")
        stopped.append(f"tieout (process {process.pid})")
    stopped += stop_marked(folder)
    if folder.is_dir() and not settings.is_external():
        stopped += embedded_servers(folder).stop()
        stopped += _stop_drilled(folder)
    return stopped


def is_drilling(folder: Path) -> bool:
    """Return whether a drill runs in `folder` now."""
    path = folder / DRILLS_FOLDER / DRILL_LOCK
    if not path.exists():
        return False
    with path.open("a+") as file:
        return not _lock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _stop_drilled(folder: Path) -> list[str]:
    """Stop the system that a killed drill left behind; a running drill stops its system itself."""
    drilled = folder / DRILLS_FOLDER / DRILLED_SYSTEM
    if not drilled.is_dir() or is_drilling(folder):
        return []
    return [*stop_marked(drilled), *(f"{name} of a drill" for name in embedded_servers(drilled).stop())]


def stop_marked(folder: Path) -> list[str]:
    """Stop the workers of the stack of `folder` that lost their supervisor; return them in words."""
    left = tracking.marked(folder)
    names = [f"worker (process {process.pid})" for process in left]
    for process in left:
        tracking.stop(process, signals=((signal.SIGTERM, 0.0),))
    _, alive = psutil.wait_procs(left, timeout=15)
    for process in alive:
        tracking.stop(process, signals=((signal.SIGKILL, 5.0),))
    return names


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that they run the same clean-up as Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    with _handled(interrupt, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore signals while the block runs, so that it ends even if the user presses Ctrl-C again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handled(handler: signal.Handlers | Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def _locked(path: Path, mode: int) -> Iterator[int]:
    with path.open("a+") as file:
        _lock(file.fileno(), mode)
        yield file.fileno()


def _lock(descriptor: int, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode)
    except BlockingIOError:
        return False
    return True
