"""The embedded servers of one stack: PostgreSQL for two pods and a control cluster, Valkey for log, carts and cache.

Belongs here: which servers there are and which settings follow from them. Does not belong here: how one server is
started (`stack/servers/postgres.py`, `stack/servers/valkey.py`) and which process stops them
(`stack/composition/session.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stack import files
from stack.servers import bootstrap
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.unix_account import let_pass
from stack.servers.valkey import EmbeddedValkey
from stack.settings import FILE_NAME, read_settings_file

POD_NAMES = ("pod1", "pod2")
CONTROL = "control"
VALKEY = "valkey"
CARTS = "carts"
CARTS_MEMORY_MB = 256
"""At this limit the server evicts what can be had again: carts that their pods have, and sessions."""
CACHE = "cache"
CACHE_MEMORY_MB = 128
PASSWORDS = "passwords"
LAKE = "lake"
DRILLS = "drills"
CONTROL_SETTINGS = {
    **{item.role: item.setting for item in bootstrap.CONTROL_DATABASES},
    bootstrap.QUERY_ROLE: bootstrap.QUERY_DATABASES[0][1],
    bootstrap.WITNESS_ROLE: bootstrap.WITNESSED_DATABASE[1],
}
"""The setting that holds the password of each role of the control cluster."""


@dataclass(frozen=True, kw_only=True)
class Servers:
    """The servers whose data, passwords and logs are in one `var` folder."""

    var_dir: Path
    pods: tuple[EmbeddedPostgres, ...]
    control: EmbeddedPostgres
    valkey: EmbeddedValkey
    """The log's."""
    carts: EmbeddedValkey
    cache: EmbeddedValkey
    """Of assembled answers: a server of its own, because it evicts what is used least; the log must lose nothing."""

    @property
    def all(self) -> tuple[EmbeddedPostgres | EmbeddedValkey, ...]:
        """Every server, the log first; the databases that receive writes come last."""
        return (self.valkey, self.carts, self.cache, *self.pods, self.control)

    def start(self) -> dict[str, str]:
        """Start all stopped servers in parallel, create roles and databases, and return the resulting settings.

        Raises StackError; servers that have started by then keep running until `stop`.
        """
        self.var_dir.mkdir(parents=True, exist_ok=True)
        self.close_to_others()
        pods = [lambda pod=pod: self._start_pod(pod) for pod in self.pods]
        _side_by_side([*pods, self._start_control, *(server.start for server in (self.valkey, self.carts, self.cache))])
        return self._settings()

    def close_to_others(self) -> None:
        """Let the servers' account traverse the var folder to its data; make all other folders private to the owner.

        The folder of drills stays open, because it holds a system like this one with servers that must be reached.
        """
        let_pass(self.var_dir, self.control.account)
        open_to_servers = {server.folder for server in (*self.pods, self.control)} | {self.var_dir / DRILLS}
        for folder in self.var_dir.iterdir():
            if folder not in open_to_servers:
                files.close_to_others(folder)

    def stop(self) -> list[str]:
        """Stop all running servers, Valkey first; return their names."""
        running = [server for server in self.all if server.is_running()]
        _side_by_side([server.stop for server in running])
        return [server.name for server in running]

    def running(self) -> list[str]:
        """Return the names of the servers that run."""
        return [server.name for server in self.all if server.is_running()]

    def wipe(self) -> None:
        """Delete the data of all servers and of the lake, their passwords and settings; they must not run."""
        for server in self.all:
            server.wipe()
        for folder in (PASSWORDS, LAKE):
            shutil.rmtree(self.var_dir / folder, ignore_errors=True)
        (self.var_dir / FILE_NAME).unlink(missing_ok=True)

    def _password(self, server: str, role: str, setting: str) -> str:
        """Return a role's password. If its file was deleted, take the password from the settings and write the file.

        A new password would lock out the running processes if the settings cannot be written because another server
        is lost.
        """
        file = self.var_dir / PASSWORDS / f"{server}.{role}"
        known = urlsplit(read_settings_file(self.var_dir / FILE_NAME).get(setting, "")).password
        if known and not file.exists():
            files.write_private(file, f"{unquote(known)}\n")
        return files.stored_password(file)

    def _was_in_use(self, server: EmbeddedPostgres) -> bool:
        """Return whether there are files of an earlier system that had `server`; only a reset deletes them all.

        A server's first start writes its passwords. The settings follow when all servers have started, then the lake.
        """
        lake = self.var_dir / LAKE
        return (
            any((self.var_dir / PASSWORDS).glob(f"{server.name}.*"))
            or (self.var_dir / FILE_NAME).exists()
            or (lake.is_dir() and any(lake.iterdir()))
        )

    def _start_pod(self, pod: EmbeddedPostgres) -> None:
        pod.start(was_in_use=self._was_in_use(pod))
        roles = (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE)
        passwords = {role: self._password(pod.name, role, _pod_setting(pod, role)) for role in roles}
        bootstrap.prepare_pod(pod.superuser_dsn(), passwords)

    def _start_control(self) -> None:
        self.control.start(was_in_use=self._was_in_use(self.control))
        passwords = {role: self._password(CONTROL, role, setting) for role, setting in CONTROL_SETTINGS.items()}
        bootstrap.prepare_control(self.control.superuser_dsn(), passwords)

    def _settings(self) -> dict[str, str]:
        values = {"TIEOUT_PODS": ",".join(pod.name for pod in self.pods)}
        for pod in self.pods:
            for role in (*bootstrap.POD_ROLES, bootstrap.WITNESS_ROLE):
                setting = _pod_setting(pod, role)
                password = self._password(pod.name, role, setting)
                values[setting] = pod.dsn(role, password, bootstrap.POD_DATABASE)
        for item in bootstrap.CONTROL_DATABASES:
            password = self._password(CONTROL, item.role, item.setting)
            values[item.setting] = self.control.dsn(item.role, password, item.database)
        asking = self._password(CONTROL, bootstrap.QUERY_ROLE, CONTROL_SETTINGS[bootstrap.QUERY_ROLE])
        for database, setting in bootstrap.QUERY_DATABASES:
            values[setting] = self.control.dsn(bootstrap.QUERY_ROLE, asking, database)
        database, setting = bootstrap.WITNESSED_DATABASE
        seeing = self._password(CONTROL, bootstrap.WITNESS_ROLE, setting)
        values[setting] = self.control.dsn(bootstrap.WITNESS_ROLE, seeing, database)
        values["TIEOUT_LOG_URL"] = self.valkey.url()
        values["TIEOUT_CARTS_URL"] = self.carts.url()
        values["TIEOUT_CACHE_URL"] = self.cache.url()
        values["TIEOUT_LAKE_DATA_PATH"] = f"{self.var_dir / LAKE}/"
        return values


def _pod_setting(pod: EmbeddedPostgres, role: str) -> str:
    return f"TIEOUT_{pod.name.upper()}_{role.removeprefix('tieout_').upper()}_DSN"


def embedded_servers(var_dir: Path) -> Servers:
    """Return the servers of the stack in `var_dir`; nothing is started or read."""
    logs = var_dir / "logs"

    def postgres(name: str) -> EmbeddedPostgres:
        return EmbeddedPostgres(name=name, folder=var_dir / name, log=logs / f"{name}.log")

    return Servers(
        var_dir=var_dir,
        pods=tuple(postgres(name) for name in POD_NAMES),
        control=postgres(CONTROL),
        valkey=EmbeddedValkey(name=VALKEY, folder=var_dir / VALKEY, log=logs / "valkey.log"),
        carts=EmbeddedValkey(
            name=CARTS,
            folder=var_dir / CARTS,
            log=logs / "carts.log",
            memory_mb=CARTS_MEMORY_MB,
            policy="volatile-lru",
        ),
        cache=EmbeddedValkey(
            name=CACHE,
            folder=var_dir / CACHE,
            log=logs / "cache.log",
            is_durable=False,
            memory_mb=CACHE_MEMORY_MB,
            policy="allkeys-lfu",
        ),
    )


def _side_by_side(tasks: Iterable[Callable[[], object]]) -> None:
    """Run `tasks` in threads, wait for all, then raise the first error if there is one."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        futures = [pool.submit(task) for task in tasks]
    for future in futures:
        future.result()
