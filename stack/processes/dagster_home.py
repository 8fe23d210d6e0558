"""Dagster's folder and configuration: where it stores its history, its limits and its timeouts.

Belongs here: `dagster.yaml` and the environment of Dagster's processes. Does not belong here: the graph
(`orchestration/`).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from contracts.errors import StackError
from contracts.runs import DRAIN_TAG, RECONCILIATION_TAG, REPAIR_TAG
from contracts.settings import Settings
from stack.files import write_private

SOCKET_FOLDER_CHARACTERS_MAX = 70

PATIENCE_SECONDS = 600
"""How long Dagster's processes wait for an answer of a code server. They notice an ended code server at once, but a
slow one must not make a run fail: by default Dagster gives up after a minute and drops the run."""

GRACE_SECONDS = 10
"""How long a stopped code server waits for running calls; by default it waits as long as the timeout of its callers."""

CONFIGURATION = """\
# Written at every start by stack/processes/dagster_home.py; changes are lost. Holds a password.
storage:
  postgres:
    postgres_db:
      hostname: "{hostname}"
      port: {port}
      username: "{username}"
      password: "{password}"
      db_name: "{database}"
      params: {params}
      # SQLAlchemy's default driver for PostgreSQL is about to change; Dagster needs this one.
      scheme: postgresql+psycopg2
telemetry:
  enabled: false
# Else a dialog covers the page at the first visit.
nux:
  enabled: false
# On a busy machine a run's process takes minutes to begin; one whose code server was killed is noticed by then, too.
run_monitoring:
  enabled: true
  start_timeout_seconds: 900
  poll_interval_seconds: 30
code_servers:
  local_startup_timeout: {patience_seconds}
  reload_timeout: {patience_seconds}
# A run that ended with its code server is noticed.
run_launcher:
  module: orchestration.launcher
  class: WatchedRunLauncher
# What was lost (its process, its code server) is begun again; what failed by itself is not, the next one comes anyway.
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
# A code server that does not answer yet costs a run its place in the queue, not its life: half an hour is tried.
run_queue:
  max_user_code_failure_retries: 60
  user_code_failure_retry_delay: 30
concurrency:
  runs:
    max_concurrent_runs: 3
    tag_concurrency_limits:
      - key: {drain_tag}
        value:
          applyLimitPerUniqueValue: true
        limit: 1
      - key: {reconciliation_tag}
        limit: 1
      - key: {repair_tag}
        value:
          applyLimitPerUniqueValue: true
        limit: 1
schedules:
  use_threads: true
  num_workers: 2
sensors:
  use_threads: true
  num_workers: 4
# A sensor that looks every few seconds writes thousands of ticks a day.
retention:
  schedule:
    purge_after_days: 30
  sensor:
    purge_after_days:
      skipped: 1
      failure: 14
      success: 14
"""


def dagster_url(settings: Settings) -> str | None:
    """Return the address of Dagster's pages, or None when they were never started here."""
    path = settings.var_dir / "dagster" / "url"
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


@dataclass(frozen=True, kw_only=True)
class CodeLocation:
    """A part of the graph that Dagster loads in a separate process."""

    name: str
    module: str
    attribute: str
    socket: Path
    """The socket on which its code server listens."""


def code_locations(workspace: Path, home: Path) -> list[CodeLocation]:
    """Return the locations that `workspace` (the checkout's workspace.yaml) names, with a socket for each."""
    try:
        entries = yaml.safe_load(workspace.read_text(encoding="utf-8"))["load_from"]
        modules = [entry["python_module"] for entry in entries]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise StackError(f"{workspace} cannot be read as a list of python_module locations: {error}.") from None
    folder = _socket_folder(home)
    return [
        CodeLocation(
            name=module["location_name"],
            module=module["module_name"],
            attribute=module["attribute"],
            socket=folder / f"{module['location_name']}.sock",
        )
        for module in modules
    ]


def _socket_folder(home: Path) -> Path:
    """Return a folder for sockets: `home`, or a folder in the temporary files when the path of `home` is too long.

    A socket's path is limited to about 100 characters. The folder in the temporary files has the same name at every
    start, so that starts leave no unused folders behind.
    """
    if len(str(home)) < SOCKET_FOLDER_CHARACTERS_MAX:
        return home
    digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tieout-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Every user may write to the folder for temporary files, so another user may have created this folder before us.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StackError(f"{folder} is for Dagster's sockets and belongs to somebody else; remove it, or set TMPDIR.")
    return folder


def write_workspace(locations: list[CodeLocation], home: Path) -> Path:
    """Write the workspace file and return its path. With it webserver and daemon share one code server per location."""
    servers = [
        {
            "grpc_server": {
                "socket": str(location.socket),
                "location_name": location.name,
                # Dagster's page shows this. Its reload button asks the same process again, which keeps its old code.
                "additional_metadata": {"changed code is loaded by": "tieout reload"},
            }
        }
        for location in locations
    ]
    path = home / "workspace.yaml"
    write_private(path, yaml.safe_dump({"load_from": servers}))
    return path


def write_dagster_home(settings: Settings) -> Path:
    """Write `dagster.yaml` (0600) into `<var>/dagster` and return that folder, the value for ``DAGSTER_HOME``."""
    home = settings.var_dir / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    parts = urlsplit(settings.dagster_dsn)
    text = CONFIGURATION.format(
        hostname=parts.hostname,
        port=parts.port or 5432,
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")),
        # JSON is valid YAML. These are the parameters of the DSN, e.g. sslmode.
        params=json.dumps(dict(parse_qsl(parts.query))),
        drain_tag=DRAIN_TAG,
        reconciliation_tag=RECONCILIATION_TAG,
        repair_tag=REPAIR_TAG,
        patience_seconds=PATIENCE_SECONDS,
    )
    write_private(home / "dagster.yaml", text)
    return home


def dagster_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables of Dagster's processes, besides the settings."""
    return {
        "DAGSTER_HOME": str(settings.var_dir / "dagster"),
        "TIEOUT_VAR_DIR": str(settings.var_dir),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        # Sensors, schedules and the loading of a location wait at least this long.
        "DAGSTER_GRPC_TIMEOUT_SECONDS": str(PATIENCE_SECONDS),
        "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": str(GRACE_SECONDS),
        "DO_NOT_TRACK": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
