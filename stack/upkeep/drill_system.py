"""The drill process: makes a separate system in its own folder, breaks it on purpose, and deletes it afterwards.

    TIEOUT_VAR_DIR=<folder> python -m stack.upkeep.drill_system --orders-per-second 5 log/replay lake/lag

Belongs here: that system, for the drills' port (`drills/system.py`), and the lines that report outcomes to the parent.
Does not belong here: what is drilled (`drills/`), what happens to the outcomes (`stack/composition/drilling.py`).

Its environment names no other servers (`stack/composition/drilling.py`), so neither this process nor its children know
the address of other data.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from contracts.drills import Drill, drills_named
from contracts.errors import StackError, TieoutError, WarehouseError
from contracts.ownership import WAREHOUSE
from contracts.progress import SILENT
from contracts.settings import Settings
from contracts.waiting import wait_until
from drills.system import Ran
from reconcile.context import ReconcileContext
from stack import files, settings
from stack.composition import session
from stack.composition.builder import WarehouseBuilder, warm_builder
from stack.composition.comparison import build_reconcile_context
from stack.composition.migrations import migrate_everything
from stack.composition.projections import observed_projection
from stack.looking.status import read_status
from stack.processes.supervision import Supervisor
from stack.processes.workers import carts_program, propagation_programs, traffic_program
from stack.scrubbing import scrubber
from stack.servers import bootstrap
from stack.servers.embedded import Servers, embedded_servers
from stack.servers.postgres import EmbeddedPostgres
from stack.servers.valkey import EmbeddedValkey
from stack.settings import ROOT
from stack.upkeep import lifecycle
from streams.projection import Projection

MARK = "made-by-a-drill"
"""File that marks a folder whose whole content drills may delete."""

COMMAND_SECONDS_MAX = 300.0
START_SECONDS_MAX = 180.0
PARENT_LOOK_SECONDS = 1.0
LOG_LINES_SHOWN, LINE_SHOWN = 8, 300


@dataclass(kw_only=True)
class OwnSystem:
    """Embedded servers, the production's workers and load; implements `drills.system.System`."""

    settings: Settings
    servers: Servers
    supervisor: Supervisor
    builder: WarehouseBuilder | None

    def worker_states(self) -> Mapping[str, str]:
        """Return the supervisor's state of every worker, by name."""
        return {worker.name: worker.state for worker in self.supervisor.states()}

    def kill_workers(self, names: Collection[str]) -> None:
        """Kill workers (SIGKILL) and prevent their restart."""
        for name in names:
            self.supervisor.kill_worker(name)

    def start_workers(self, names: Collection[str]) -> None:
        """Start workers again."""
        for name in names:
            self.supervisor.start_worker(name)

    def kill_server(self, name: str) -> None:
        """Kill a server (SIGKILL) with all its processes."""
        self._server(name).kill()

    def start_server(self, name: str) -> None:
        """Start a server again at the same address, because running workers keep the old address."""
        server = self._server(name)
        before = server.port
        server.start()
        if before and server.port != before:
            raise StackError(f"The port {before} of {name} was taken by somebody meanwhile; drill again.")

    def mend(self) -> None:
        """Start every server and worker that a drill has left stopped."""
        self.servers.start()
        self.start_workers([name for name, state in self.worker_states().items() if state != "running"])

    def delete_log(self) -> tuple[int, int]:
        """Delete the killed log server's files; return the bytes before and the bytes that are left."""
        return self.servers.valkey.delete_data()

    def delete_lake(self) -> int:
        """Replace the lake's catalog by an empty database, and delete the lake's files.

        Returns the number of tables and files that are left.
        """
        superuser = self.servers.control.superuser_dsn()
        (catalog,) = [one for one in bootstrap.CONTROL_DATABASES if one.setting == "TIEOUT_CATALOG_DSN"]
        bootstrap.drop_database(superuser, catalog.database)
        bootstrap.create_database(superuser, catalog.database, owner=catalog.role)
        folder = Path(self.settings.lake_data_path)
        shutil.rmtree(folder)
        return bootstrap.count_tables(self.settings.catalog_dsn) + len(list(folder.rglob("*")))

    def run(self, arguments: Sequence[str]) -> Ran:
        """Run a `tieout` command, as a person would."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "cli", *arguments],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS_MAX,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            answer = json.loads(done.stdout)
        except json.JSONDecodeError:
            answer = None
        return Ran(exit_code=done.returncode, answer=answer, complaint=self.clean(done.stderr[-500:]))

    def status(self) -> Mapping[str, Any]:
        """Return the values of `tieout status --json`."""
        return read_status(self.settings).as_json()

    def build(self) -> Mapping[str, int]:
        """Build the warehouse incrementally; return its cuts."""
        if self.builder is None:
            raise WarehouseError("This run of drills was started without a builder of the warehouse.")
        built = self.builder.build()
        if not built.is_complete:
            raise WarehouseError(f"The warehouse build is not complete: {'; '.join(built.failed[:3])}.")
        return built.cuts

    def context(self, *, lag_seconds_max: float) -> ReconcileContext:
        """Return the context of a comparison that waits this long for a copy."""
        build = self.builder.build_to if self.builder else None
        return build_reconcile_context(self.settings, build=build, lag_seconds_max=lag_seconds_max)

    def projection(self, name: str) -> Projection:
        """Return the projection of that name; asking how far it is changes nothing."""
        return observed_projection(name, self.settings)

    def clean(self, text: str) -> str:
        """Return a text without the system's passwords, as one line."""
        return scrubber(self.settings)(text)

    def log_tails(self) -> dict[str, str]:
        """Return the last lines of every worker's log."""
        tails = {path.stem: files.tail(path, LOG_LINES_SHOWN) for path in sorted(self.supervisor.logs.glob("*.log"))}
        return {
            name: "\n".join(self.clean(line)[:LINE_SHOWN] for line in tail.splitlines())
            for name, tail in tails.items()
            if tail
        }

    def _server(self, name: str) -> EmbeddedPostgres | EmbeddedValkey:
        return next(server for server in self.servers.all if server.name == name)


@contextmanager
def own_system(drills: Sequence[Drill], *, orders_per_second: float) -> Iterator[OwnSystem]:
    """Run new servers, workers and load in this process' var folder; all of it is deleted afterwards."""
    folder = settings.var_dir()
    _claim(folder)
    with ExitStack() as stack:
        # Delete what an earlier, killed drill left behind.
        lifecycle.reset()
        stack.callback(_delete, folder)
        values = stack.enter_context(session.open_session(SILENT))
        migrate_everything(values)
        supervisor = Supervisor(var_dir=folder)
        stack.callback(lifecycle.stop_workers, folder)
        programs = [*propagation_programs(values), traffic_program(values, orders_per_second=orders_per_second)]
        programs += [carts_program(values)] if values.carts_url else []
        supervisor.start(programs, directory=ROOT)
        needs_builds = any(drill.copy is WAREHOUSE for drill in drills)
        builder = stack.enter_context(warm_builder(values)) if needs_builds else None
        servers = embedded_servers(folder)
        servers.start()
        system = OwnSystem(settings=values, servers=servers, supervisor=supervisor, builder=builder)
        wait_until(
            lambda: _has_orders(values),
            timeout_seconds=START_SECONDS_MAX,
            failure=lambda: f"The load placed no order in {START_SECONDS_MAX:.0f} s; see {folder / 'logs'}.",
        )
        yield system


def _claim(folder: Path) -> None:
    """Mark the folder as one that drills may delete; StackError when it holds other data."""
    if settings.is_external():
        raise StackError("Drills run on servers of their own; the environment must not name others (TIEOUT_PODS).")
    mark = folder / MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise StackError(f"{folder} holds something that no drill has made; drills delete everything in their folder.")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    mark.touch()


def _delete(folder: Path) -> None:
    lifecycle.reset()
    shutil.rmtree(folder, ignore_errors=True)


def _has_orders(values: Settings) -> bool:
    """Return whether every pod has an order, so that nothing is drilled on an empty pod."""
    import psycopg

    for pod in values.pods:
        with psycopg.connect(pod.reader_dsn) as connection:
            if connection.execute("select 1 from oltp.orders limit 1").fetchone() is None:
                return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Drill, and write a line of JSON for every step: starting, ready, outcome, failed. Return 0 if all drills ran."""
    options = _parser().parse_args(arguments)
    files.keep_private()
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_end_without_parent, args=(os.getppid(),), daemon=True).start()
    try:
        with session.ended_by_signals():
            _drill(options, lines)
    except KeyboardInterrupt:
        return 130
    except TieoutError as error:
        _tell(lines, failed=str(error))
        return 1
    return 0


def _drill(options: argparse.Namespace, lines: IO[str]) -> None:
    from drills.running import run_drills

    chosen = [drill for cell in options.cells for drill in drills_named(*cell.split("/", 1))]
    _tell(lines, starting=len(chosen))
    started = time.monotonic()
    with own_system(chosen, orders_per_second=options.orders_per_second) as system:
        _tell(lines, ready=round(time.monotonic() - started, 1))
        for outcome in run_drills(system, chosen):
            _tell(lines, outcome=outcome.as_json())


def _tell(lines: IO[str], **what: Any) -> None:
    lines.write(json.dumps(what) + "\n")
    lines.flush()


def _end_without_parent(parent: int) -> None:
    """Stop the system when the parent has ended, because no other process would stop it then."""
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack.upkeep.drill_system", description=__doc__)
    parser.add_argument("--orders-per-second", type=float, required=True)
    parser.add_argument("cells", nargs="+", help="system/test")
    return parser


if __name__ == "__main__":
    sys.exit(main())
