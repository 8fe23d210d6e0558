"""Building the warehouse: dbt over the lake, in this process.

Belongs here: what dbt needs to run (environment, parsed project), running it, its results. Does not belong here: the
models (dbt_project/), the cut vector of a build (`derived/builds.py`). Besides Dagster's assets only this module uses
dbt. It imports dbt when a build runs, because the import takes seconds.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from contracts.errors import WarehouseError
from contracts.object_store import is_object_path
from contracts.settings import Settings
from contracts.text import one_line
from derived.build_results import KeptBuild, NodeResult, keep_build
from derived.builds import Build, Connection, building
from derived.defective import Omission
from derived.failed_tests import failing_keys, with_keys
from derived.lake_connection import link_extensions, normal_data_path, scrub
from derived.leaving_out import leaves_out_events
from derived.view_definitions import WITHOUT_VIEWS, remember_views, unchanged_views

if TYPE_CHECKING:
    from dbt.cli.main import dbtRunnerResult
    from dbt.contracts.graph.manifest import Manifest

PROJECT_DIR = Path(__file__).resolve().parents[1] / "dbt_project"

THREADS = 1
"""dbt's threads. More than one would crash: DuckLake 1.5.5 reads freed memory if transactions of one process run in
parallel (duckdb/ducklake#1248). DuckDB uses `lake_threads` for a query, and dbt's own work is limited by Python's
GIL."""

_dbt_lock = threading.RLock()
"""dbt keeps its connection and flags in module state, so only one invocation at a time may run in a process."""

_manifests: dict[str, Manifest] = {}
"""The parsed project by the profile's target; it does not depend on the lake's location or dbt's target folder."""


@dataclass(frozen=True, kw_only=True)
class NodeRun:
    """One model or test of a build. `status`: success, pass, fail, warn, error or skipped."""

    name: str
    kind: str
    """``model`` or ``test``."""
    status: str
    seconds: float
    failures: int
    """Rows that a test returned."""
    message: str
    keys: str = ""
    """Keys of the first rows that failed the test."""
    compiled: str = field(default="", repr=False)
    """The SQL of a test that failed; empty for other nodes."""

    @property
    def named(self) -> str:
        """The node's name, followed by the keys."""
        return with_keys(self.name, self.keys)

    @property
    def sentence(self) -> str:
        """A sentence for people about a node that did not succeed."""
        return with_keys(f"{self.name}: {self.status} {self.message}", self.keys)


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """The result of a build."""

    build_id: str
    cuts: Mapping[str, int]
    """The build's cut vector: pod -> cut."""
    since_cuts: Mapping[str, int]
    """Pod -> cut; the build added the events after it."""
    nodes: Sequence[NodeRun]
    rows: Mapping[str, int]
    """Table -> its rows after the build, for every stored table."""
    seconds: float
    is_complete: bool
    """Whether everything was built and every test passed; only then reports read the build."""
    left_out: Sequence[Omission] = ()
    """Defective aggregates that the build leaves out."""
    warnings: Sequence[str] = ()
    """What people should know about the events that it added, one sentence each."""

    @property
    def is_built(self) -> bool:
        """Whether every model was built; tests may have failed."""
        models = [node.status in ("success", "pass", "warn") for node in self.nodes if node.kind == "model"]
        return bool(models) and all(models)

    @property
    def test_failures(self) -> list[NodeRun]:
        """The tests that failed, and the models and tests that ended with an error."""
        return [node for node in self.nodes if node.status in ("fail", "error")]


def build_warehouse(
    settings: Settings,
    *,
    select: Sequence[str] | None = None,
    full_refresh: bool = False,
    cuts: Mapping[str, int] | None = None,
    since: Mapping[str, int] | None = None,
    tables: Sequence[str] = (),
) -> BuildResult:
    """Build the warehouse at the highest cuts that are complete in the lake, and test what was added.

    `select` limits the build to some nodes (dbt's selection syntax; such a build is never complete). `full_refresh`
    recomputes everything, which also happens without it if the stored tables cannot just get a new column. `cuts` and
    `since` are passed to `building`. `tables`: build only these stored tables, with their tests, at the cuts where the
    newest complete build stands; everything, if another build has begun since. Failing tests do not raise: read the
    result.
    """
    started = time.monotonic()
    since = dict.fromkeys(_pods(settings), 0) if full_refresh else since
    with building(settings, cuts=cuts, since=since, is_again=bool(tables)) as build:
        select = tables if build.is_again else select
        is_anew = full_refresh or build.is_outgrown
        views = [] if is_anew or select else unchanged_views(build.connection)
        arguments = ["build", "--exclude-resource-types", "unit_test", "exposure"]
        arguments += ["--full-refresh"] if is_anew else []
        arguments += ["--select", *select] if select else []
        arguments += WITHOUT_VIEWS if views else []
        nodes = named_failures(build.connection, node_runs(run_dbt(settings, arguments, build=build)))
        nodes += map(_left_alone, views)
        is_faultless = all(node.status in ("success", "pass", "warn") for node in nodes)
        build.is_complete = is_faultless and (build.is_again or not select)
        if build.is_complete and not (views or select):
            remember_views(build.connection)
        rows = stored_rows(build.connection)
        if not select:
            keep_build(settings, KeptBuild(build_id=build.build_id, cuts=build.cuts, nodes=_kept(nodes, rows)))
    return _result(build, nodes, rows, time.monotonic() - started)


def dbt_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that dbt_project/profiles.yml and dbt itself need, secrets included.

    Also links DuckDB's extensions into the folder that one of the variables names. dbt hides variables that begin with
    DBT_ENV_SECRET in its logs. Everything that dbt writes is below `settings.var_dir`.
    """
    folder = settings.var_dir / "dbt"
    return {
        "DBT_PROJECT_DIR": str(PROJECT_DIR),
        "DBT_PROFILES_DIR": str(PROJECT_DIR),
        "DBT_TARGET_PATH": str(folder / "target"),
        "DBT_LOG_PATH": str(folder / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_VERSION_CHECK": "false",
        # Override the caller's environment: with a true value models would be stored without their rows.
        "DBT_EMPTY": "false",
        "TIEOUT_BUILD": "null",
        "DBT_ENV_SECRET_LAKE_CATALOG": settings.catalog_dsn,
        "TIEOUT_LAKE_DATA_PATH": normal_data_path(settings.lake_data_path),
        "TIEOUT_WAREHOUSE_EXTENSIONS_DIR": str(link_extensions(folder / "extensions")),
        "TIEOUT_WAREHOUSE_TEMP_DIR": str(folder / "temp"),
        "TIEOUT_WAREHOUSE_THREADS": str(THREADS),
        "TIEOUT_WAREHOUSE_MEMORY_MB": str(settings.warehouse_memory_mb),
        "TIEOUT_LAKE_THREADS": str(settings.lake_threads),
        **_object_environment(settings),
    }


def _object_environment(settings: Settings) -> dict[str, str]:
    """Return what dbt_project/profiles.yml needs for a lake on an object store; empty if the lake is in a folder."""
    store = settings.object_store
    if store is None or not is_object_path(settings.lake_data_path):
        return {}
    return {
        "TIEOUT_WAREHOUSE_TARGET": "lake_on_objects" if store.host else "lake_on_amazon",
        "DBT_ENV_SECRET_S3_KEY_ID": store.key_id,
        "DBT_ENV_SECRET_S3_SECRET": store.secret,
        "TIEOUT_WAREHOUSE_S3_ENDPOINT": store.host,
        "TIEOUT_WAREHOUSE_S3_REGION": store.region,
        "TIEOUT_WAREHOUSE_S3_USE_SSL": str(store.is_encrypted).lower(),
    }


def parse(settings: Settings) -> None:
    """Parse the dbt project now, so that the first build need not wait for it; safe in a background thread."""
    with _dbt_lock:
        _manifest(settings)


def project_changed_at() -> float:
    """Return when a file of the dbt project was changed last, in seconds since 1970."""
    return max(file.stat().st_mtime for file in PROJECT_DIR.rglob("*") if file.is_file())


def manifest_file(settings: Settings) -> Path:
    """Return the path of the manifest from which the asset graph is made."""
    return Path(dbt_environment(settings)["DBT_TARGET_PATH"]) / "manifest.json"


def write_manifest(settings: Settings) -> Path:
    """Return the path of dbt's manifest.json for the asset graph, after writing it again if the project has changed."""
    path = manifest_file(settings)
    if not path.exists() or path.stat().st_mtime < project_changed_at():
        with _dbt_lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            manifest: Any = _manifest(settings)
            # Other processes may write or read it now: rename it into place, so that it is never half written.
            partial = path.with_name(f"{path.name}.{os.getpid()}")
            manifest.write(str(partial))
            partial.replace(path)
    return path


def run_dbt(settings: Settings, arguments: Sequence[str], *, build: Build | None = None) -> dbtRunnerResult:
    """Run one dbt command with the parsed project; `build`: the build that it works for, whose lock is held.

    Raises WarehouseError if dbt could not run at all.
    """
    from dbt.cli.main import dbtRunner

    with _dbt_lock, _environment(settings, **({} if build is None else _told(build))):
        result = dbtRunner(manifest=_manifest(settings)).invoke([*GLOBAL_ARGUMENTS, *arguments])
    if result.exception is not None:
        message = scrub(Exception(one_line(result.exception)), settings.catalog_dsn)
        raise WarehouseError(f"dbt could not run: {message}")
    return result


def run_dbt_aloud(
    settings: Settings, arguments: Sequence[str], *, target: Path, lake_complete_at: datetime | None = None
) -> dbtRunnerResult:
    """Run one dbt command as dbt's own program would: it parses the project itself, and prints its progress.

    Its files (manifest, results, compiled SQL) go to the folder `target`, not to that of the builds.
    `lake_complete_at`: time up to which the lake has everything, for the freshness of sources.
    """
    from dbt.cli.main import dbtRunner

    told = {} if lake_complete_at is None else {"TIEOUT_LAKE_COMPLETE_AT": lake_complete_at.isoformat()}
    with _dbt_lock, _environment(settings, DBT_TARGET_PATH=str(target), DBT_WRITE_JSON="true", **told):
        return dbtRunner().invoke(list(arguments))


def _told(build: Build) -> dict[str, str]:
    """Return a build's variables for dbt_project/macros/cut_vector.sql; without them every node queries the lake."""
    vector = [{"pod": pod, "since_cut": entry.since_cut, "cut": entry.cut} for pod, entry in sorted(build.pods.items())]
    return {"TIEOUT_BUILD": json.dumps({"vector": vector, "leaves_out": leaves_out_events(build.connection)})}


def stored_rows(connection: Connection, name: str | None = None) -> dict[str, int]:
    """Return table -> number of rows, for every table that the warehouse stores, or for `name` if it is stored.

    All other models are views on these tables.
    """
    names = connection.execute(
        """select table_name from duckdb_tables()
           where database_name = 'lake' and schema_name = 'intermediate' and ($name is null or table_name = $name)
           order by table_name""",
        {"name": name},
    ).fetchall()
    counts = [f"select '{name}', count(*) from lake.intermediate.{name}" for (name,) in names]
    return (
        {name: int(count) for name, count in connection.execute(" union all ".join(counts)).fetchall()}
        if counts
        else {}
    )


def view_rows(connection: Connection, schema: str, name: str) -> int:
    """Return the number of rows of a view, by computing it; duckdb.Error if it cannot be read."""
    counted = connection.execute(f'select count(*) from lake."{schema}"."{name}"').fetchone()  # names come from dbt
    return int(counted[0]) if counted else 0


def node_runs(result: dbtRunnerResult) -> list[NodeRun]:
    """Return the result of a dbt command for each node."""
    outcomes: Any = result.result
    return [
        NodeRun(
            name=outcome.node.name,
            kind=str(outcome.node.resource_type),
            status=str(outcome.status),
            seconds=outcome.execution_time,
            failures=outcome.failures or 0,
            message=outcome.message or "",
            compiled=(getattr(outcome.node, "compiled_code", None) or "") if outcome.failures else "",
        )
        for outcome in outcomes
    ]


def _left_alone(view: str) -> NodeRun:
    return NodeRun(name=view, kind="model", status="success", seconds=0.0, failures=0, message="UNCHANGED")


def named_failures(connection: Connection, nodes: Sequence[NodeRun]) -> list[NodeRun]:
    """Return the nodes; failed tests have the keys of their first rows. The caller holds the build lock."""
    return [
        replace(node, keys=failing_keys(connection, node.compiled)) if node.status == "fail" else node for node in nodes
    ]


GLOBAL_ARGUMENTS = ("--quiet", "--log-level", "none", "--log-level-file", "none", "--no-use-colors", "--no-write-json")


def _manifest(settings: Settings) -> Manifest:
    from dbt.cli.main import dbtRunner

    target = dbt_environment(settings).get("TIEOUT_WAREHOUSE_TARGET", "")
    if target not in _manifests:
        with _environment(settings):
            result = dbtRunner().invoke([*GLOBAL_ARGUMENTS, "parse"])
        if not result.success:
            raise WarehouseError(f"dbt could not read its project: {result.exception}")
        _manifests[target] = cast("Manifest", result.result)
    return _manifests[target]


@contextmanager
def _environment(settings: Settings, **others: str) -> Iterator[None]:
    values = dbt_environment(settings) | others
    Path(values["TIEOUT_WAREHOUSE_TEMP_DIR"]).mkdir(parents=True, exist_ok=True)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _pods(settings: Settings) -> tuple[str, ...]:
    return tuple(pod.pod for pod in settings.pods)


def _kept(nodes: Sequence[NodeRun], rows: Mapping[str, int]) -> list[NodeResult]:
    return [
        NodeResult(
            name=node.name,
            kind=node.kind,
            status=node.status,
            failures=node.failures,
            message=node.message,
            rows=rows.get(node.name) if node.kind == "model" else None,
        )
        for node in nodes
    ]


def _result(build: Build, nodes: Sequence[NodeRun], rows: Mapping[str, int], seconds: float) -> BuildResult:
    return BuildResult(
        build_id=build.build_id,
        cuts=build.cuts,
        since_cuts={pod: entry.since_cut for pod, entry in build.pods.items()},
        nodes=nodes,
        rows=rows,
        seconds=seconds,
        is_complete=build.is_complete,
        left_out=build.left_out,
        warnings=build.warnings,
    )
