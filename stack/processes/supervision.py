"""The supervisor: starts the workers, restarts those that end, rotates their logs, stops them all.

Belongs here: supervisord's configuration and its XML-RPC calls. Does not belong here: which workers there are
(`stack/processes/workers.py`) and what they do (`stack/upkeep/worker.py`).
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from contracts.errors import StackError
from contracts.waiting import wait_until
from stack import files, ports
from stack.processes import restarts, tracking
from stack.processes.stopped import Refusal, refusals
from stack.settings import MARKER, without_settings

GROUP = "workers"
START_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 30.0
STOP_SIGNALS = ((signal.SIGTERM, 45.0), (signal.SIGKILL, 5.0))
"""supervisord stops all its workers in parallel and waits for them (`stopwaitsecs` each) before it ends."""


STEADY_SECONDS = 40.0
"""A worker that has run for less than this may be one that ends repeatedly: a worker that cannot continue ends after
15 s, or 25 s on a busy machine. The value is less than WORKER_PATIENCE_SECONDS, so that no alert is sent for workers
that were just started."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A worker as the supervisor runs it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 20
    """How long the worker may take to end before it is killed."""


@dataclass(frozen=True, kw_only=True)
class ProgramState:
    """The supervisor's state of a worker: running, starting, backoff, exited, fatal, stopped."""

    name: str
    state: str
    detail: str
    process_id: int | None
    restarts: int = 0
    """How often the worker was restarted since Tieout was started here."""
    suspended: int = 0
    """How many of these restarts were made because its process was suspended and nobody resumed it."""
    seconds: float | None = None
    """How long its process has run; None when it does not run."""
    refusal: str = ""
    """The reason why the worker cannot continue, given by its process or, if that has just started, by the last one."""


def _state(info: Mapping[str, Any], restarts: int, said: Refusal | None, suspended: int = 0) -> ProgramState:
    process_id = info["pid"] or None
    seconds = max(0.0, info["now"] - info["start"]) if process_id else None
    # A restarted worker has not had time to report a refusal. Until STEADY_SECONDS, the last process's refusal counts.
    is_new = restarts > 0 and (seconds is None or seconds < STEADY_SECONDS)
    is_refused = said is not None and (said.process_id == process_id or is_new)
    return ProgramState(
        name=info["name"],
        state=info["statename"].lower(),
        detail=info["description"],
        process_id=process_id,
        restarts=restarts,
        suspended=suspended,
        seconds=seconds,
        refusal=said.sentence if said is not None and is_refused else "",
    )


def render_configuration(
    programs: Sequence[Program], *, folder: Path, logs: Path, directory: Path, port: int, password: str
) -> str:
    """Return supervisord's configuration file. It holds `password`."""
    lines = [
        "; Written at every start by stack/processes/supervision.py; changes are lost.",
        "[supervisord]",
        "nodaemon=true",
        f"umask={files.PRIVATE_MASK:03o}",
        f"pidfile={_escape(folder / 'supervisord.pid')}",
        f"logfile={_escape(logs / 'supervisord.log')}",
        "logfile_maxbytes=5MB",
        "logfile_backups=1",
        f"childlogdir={_escape(logs)}",
        f"directory={_escape(directory)}",
        "",
        "[inet_http_server]",
        f"port={ports.LOOPBACK}:{port}",
        "username=tieout",
        f"password={_escape(password)}",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    if programs:
        # supervisord stops the members of a group in parallel, and groups one after the other.
        lines += ["", f"[group:{GROUP}]", f"programs={','.join(program.name for program in programs)}"]
    for program in programs:
        lines += ["", *_render_program(program, logs)]
    return "\n".join(lines) + "\n"


def _render_program(program: Program, logs: Path) -> list[str]:
    environment = ",".join(f'{name}="{_escape(value)}"' for name, value in sorted(program.environment.items()))
    return [
        f"[program:{program.name}]",
        f"command={_escape(shlex.join(program.command))}",
        f"environment={environment}",
        "autostart=true",
        "autorestart=true",
        "startsecs=1",
        # Each attempt waits a second longer than the last. The number is large, because a worker must also be restarted
        # after a long outage.
        "startretries=100000",
        f"stopwaitsecs={program.stop_seconds}",
        "stopasgroup=true",
        "killasgroup=true",
        "redirect_stderr=true",
        f"stdout_logfile={_escape(logs / program.name)}.log",
        "stdout_logfile_maxbytes=5MB",
        "stdout_logfile_backups=2",
    ]


def _escape(value: object) -> str:
    # supervisord expands %(...)s in every value.
    return str(value).replace("%", "%%")


@dataclass(kw_only=True)
class Supervisor:
    """The one supervisord of a stack; another process may have started it."""

    var_dir: Path

    @property
    def folder(self) -> Path:
        """The folder of its configuration and its address."""
        return self.var_dir / "supervisor"

    @property
    def log(self) -> Path:
        """supervisord's log, which names every worker that it starts."""
        return self.logs / "supervisord.log"

    @property
    def logs(self) -> Path:
        """The folder of its log and the workers' logs, one file each."""
        return self.var_dir / "logs"

    def start(self, programs: Sequence[Program], *, directory: Path) -> None:
        """Start supervisord with `programs`. Raises StackError, one sentence that names the log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        port = ports.free_port()
        password = files.stored_password(self.folder / "password")
        configuration = self.folder / "supervisord.conf"
        files.write_private(
            configuration,
            render_configuration(
                programs, folder=self.folder, logs=self.logs, directory=directory, port=port, password=password
            ),
        )
        files.write_private(self.folder / "address", f"http://tieout:{password}@{ports.LOOPBACK}:{port}/RPC2\n")
        output = self.log
        files.rotate(output)
        with output.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "stack.processes.supervisord", "-n", "-s", "-c", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=directory,
                start_new_session=True,
                umask=files.PRIVATE_MASK,
                # Each worker gets its settings in the environment of its program.
                env={
                    **without_settings(os.environ),
                    MARKER: str(self.var_dir),
                    "PYTHONPATH": str(directory),
                },
            )
        self._wait_until_ready(child, output)
        tracking.release(child)

    def is_running(self) -> bool:
        """Return whether supervisord's process lives."""
        return self._process() is not None

    def stop(self) -> bool:
        """Stop supervisord, which stops all workers; return whether it ran."""
        process = self._process()
        if process is None:
            return False
        tracking.stop(process, signals=STOP_SIGNALS)
        return True

    def states(self) -> list[ProgramState]:
        """Return the state of every worker; empty when supervisord does not run."""
        answer = self._call("getAllProcessInfo")
        if answer is None:
            return []
        again = restarts.of_workers(self.folder, self.log)
        said, suspended = refusals(self.var_dir), restarts.of_suspended(self.folder)
        return [
            _state(info, again.get(info["name"], 0), said.get(info["name"]), suspended.get(info["name"], 0))
            for info in answer
        ]

    def workers(self) -> list[psutil.Process]:
        """Return the workers' processes that live, without those that these have started."""
        process = self._process()
        try:
            return [] if process is None else process.children()
        except psutil.Error:
            return []

    def kill_worker(self, name: str) -> None:
        """Kill a worker (SIGKILL), and prevent its restart until `start_worker`."""
        for state in self.states():
            if state.name == name and state.process_id is not None:
                with suppress(ProcessLookupError):
                    os.kill(state.process_id, signal.SIGKILL)

        def is_stopped() -> bool:
            # If the supervisor has already noticed the worker's end, it refuses to stop the worker, and restarts it a
            # moment later. So we call stopProcess repeatedly until the state is `stopped`.
            self._call("stopProcess", f"{GROUP}:{name}", True)
            return any(state.name == name and state.state == "stopped" for state in self.states())

        wait_until(
            is_stopped,
            timeout_seconds=STOP_TIMEOUT_SECONDS,
            failure=lambda: f"Worker {name} does not stop; the supervisor's log is {self.log}.",
        )

    def start_worker(self, name: str) -> None:
        """Start a worker that was stopped; do nothing when it runs."""
        self._call("startProcess", f"{GROUP}:{name}", False)

    def signal_worker(self, name: str, signal_name: str) -> None:
        """Send a worker a signal, e.g. ``HUP``; do nothing when it does not run."""
        self._call("signalProcess", f"{GROUP}:{name}", signal_name)

    def _process(self) -> psutil.Process | None:
        process_id = tracking.read_process_id(self.folder / "supervisord.pid")
        return tracking.find(process_id, "supervisord", str(self.folder))

    def _wait_until_ready(self, child: subprocess.Popen[bytes], output: Path) -> None:
        def ready() -> bool:
            if child.poll() is not None:
                raise StackError(f"The supervisor did not start ({files.tail(output)}); its log is {output}.")
            return self._call("getState") is not None

        wait_until(
            ready,
            timeout_seconds=START_TIMEOUT_SECONDS,
            failure=lambda: f"The supervisor did not answer in time; its log is {output}.",
        )

    def _call(self, method: str, *arguments: Any) -> Any:
        """Return the answer to an XML-RPC call, or None when supervisord does not answer."""
        try:
            address = (self.folder / "address").read_text(encoding="utf-8").strip()
            with xmlrpc.client.ServerProxy(address) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (OSError, xmlrpc.client.Error):
            return None
