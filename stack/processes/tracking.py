"""Processes that the stack started: whether one lives, whether an id still belongs to it, stopping, finding leftovers.

Belongs here: everything about process ids. Does not belong here: what a particular server needs to start.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from stack.settings import MARKER


def release(child: subprocess.Popen[bytes]) -> None:
    """Let `child` outlive its Popen object; from now on we identify it by its process id."""
    # Otherwise Popen warns when it is garbage-collected. `stop` reaps the process.
    child.returncode = 0


def find(process_id: int | None, *words: str) -> psutil.Process | None:
    """Return the live process of that id if its command line holds every one of `words`; else None.

    The words distinguish a server from an unrelated process that got its id after a crash.
    """
    if process_id is None:
        return None
    try:
        process = psutil.Process(process_id)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        command = " ".join(process.cmdline())
    except psutil.Error:
        return None
    return process if all(word in command for word in words) else None


def find_in(folder: Path, program: str) -> psutil.Process | None:
    """Return the live process of that program whose working directory is `folder`; None when there is none.

    This finds a server that could not write its pid file, or whose pid file was deleted.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == program and process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                return process
    return None


def read_process_id(path: Path) -> int | None:
    """Return the process id on the first line of a pid file, or None when there is none."""
    try:
        first = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except OSError:
        return None
    return int(first) if first.isdigit() else None


def stop(process: psutil.Process, *, signals: Iterable[tuple[int, float]]) -> bool:
    """Send the signals in turn and wait the given seconds after each; return whether the process has ended."""
    for number, patience_seconds in signals:
        try:
            process.send_signal(number)
            process.wait(timeout=patience_seconds)
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            continue
        return True
    return False


def kill_tree(process: psutil.Process, *, patience_seconds: float = 10.0) -> None:
    """Kill a process and all its children at once, and wait until they are gone."""
    try:
        doomed = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in doomed:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(doomed, timeout=patience_seconds)


def marked(var_dir: Path) -> list[psutil.Process]:
    """Return the live processes with this stack's marker, except this process and its parents."""
    own = psutil.Process()
    spared = {own.pid, *(parent.pid for parent in own.parents())}
    return [process for process in psutil.process_iter() if process.pid not in spared and _has_marker(process, var_dir)]


def _has_marker(process: psutil.Process, var_dir: Path) -> bool:
    try:
        return process.environ().get(MARKER) == str(var_dir) and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
