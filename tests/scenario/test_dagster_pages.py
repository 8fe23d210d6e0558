"""The real webserver and daemon, driven through GraphQL as the pages do: materialize, check, see it pass."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts.settings import Settings
from stack.dagster_home import dagster_environment, write_dagster_home
from stack.files import free_port
from stack.migrations import migrate_everything
from tests.integration.reconcile_world import open_shops

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 240.0

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
RUN_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
LOCATIONS = """
query { workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
CHECKS = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetChecksOrError {
  ... on AssetChecks { checks { name executionForLatestMaterialization { status } } } } } } }
"""
NODES = "query { assetNodes { assetKey { path } groupName owners { ... on TeamAssetOwner { team } } kinds } }"


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the settings as the environment of a process that is to use these servers."""
    values = {
        "TIEOUT_VAR_DIR": str(settings.var_dir),
        "TIEOUT_PODS": ",".join(pod.pod for pod in settings.pods),
        "TIEOUT_CONTROL_DSN": settings.control_dsn,
        "TIEOUT_CATALOG_DSN": settings.catalog_dsn,
        "TIEOUT_READ_MODELS_DSN": settings.read_models_dsn,
        "TIEOUT_DAGSTER_DSN": settings.dagster_dsn,
        "TIEOUT_LOG_URL": settings.log_url,
        "TIEOUT_LAKE_DATA_PATH": settings.lake_data_path,
        "TIEOUT_LAKE_BACKUP_PATH": str(settings.lake_backup_path),
    }
    for pod in settings.pods:
        for role in ("owner", "app", "relay", "reader"):
            values[f"TIEOUT_{pod.pod.upper()}_{role.upper()}_DSN"] = getattr(pod, f"{role}_dsn")
    return values


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Dagster's webserver, asked as its own pages ask it."""

    address: str
    logs: Path

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.address}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    def until(self, what: str, is_true: Any) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_true():
            assert time.monotonic() < deadline, f"{what}; logs in {self.logs}: {self.tail()}"
            time.sleep(0.5)

    def tail(self) -> str:
        return "\n".join(path.read_text()[-1500:] for path in self.logs.glob("*.log"))

    def is_up(self) -> bool:
        try:
            entries = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        except (urllib.error.URLError, OSError):
            return False
        return len(entries) == 2 and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def run(self, job: str, **params: Any) -> None:
        """Launch a job of the location `tieout` and wait until it has succeeded."""
        selector = {
            "repositoryLocationName": "tieout",
            "repositoryName": "__repository__",
            "pipelineName": job,
            **params.pop("selector", {}),
        }
        answer = self.ask(LAUNCH, params={"selector": selector, "mode": "default", **params})
        launched = answer["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]

        def ended() -> bool:
            status = self.ask(RUN_STATUS, id=run_id)["runOrError"]["status"]
            assert status not in ("FAILURE", "CANCELED"), (job, status, self.tail())
            return bool(status == "SUCCESS")

        self.until(f"{job} did not end", ended)

    def checks(self, *path: str) -> Mapping[str, str | None]:
        found = self.ask(CHECKS, key={"path": list(path)})["assetNodeOrError"]["assetChecksOrError"]["checks"]
        return {check["name"]: (check["executionForLatestMaterialization"] or {}).get("status") for check in found}


@pytest.fixture
def pages(settings: Settings, tmp_path: Path) -> Iterator[Pages]:
    migrate_everything(settings)
    write_dagster_home(settings)
    environment = {
        **os.environ,
        **settings_environment(settings),
        **dagster_environment(settings),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    port = free_port()
    workspace = str(ROOT / "workspace.yaml")
    commands = {
        "webserver": ["dagster_webserver", "--workspace", workspace, "--host", "127.0.0.1", "--port", str(port)],
        "daemon": ["dagster._daemon", "run", "--workspace", workspace],
    }
    processes = []
    try:
        for name, command in commands.items():
            with (tmp_path / f"{name}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-P", "-m", *command],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=ROOT,
                        env=environment,
                        start_new_session=True,
                    )
                )
        yield Pages(address=f"http://127.0.0.1:{port}", logs=tmp_path)
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.timeout(900)
def test_materialize_check_and_see_it_pass(settings: Settings, pages: Pages) -> None:
    with open_shops(settings) as shops:
        for shop in shops:
            shop.everything()
    pages.until("the code locations did not load", pages.is_up)

    nodes = {"/".join(node["assetKey"]["path"]): node for node in pages.ask(NODES)["assetNodes"]}
    assert {"oltp/order", "outbox/pod1", "log/pod2", "lake/events", "marts/journal", "finance/daily"} <= set(nodes)
    assert all(node["groupName"] and node["owners"] for node in nodes.values())

    for pod in ("pod1", "pod2"):
        tags = [{"key": "dagster/partition", "value": pod}]
        pages.run(f"drain_{pod}", executionMetadata={"tags": tags})

    wanted = ("oltp_lake__order", "oltp_lake__payment", "log_manifests")
    selection = [{"assetKey": {"path": ["lake", "events"]}, "name": name} for name in wanted]
    pages.run("reconciliation", selector={"assetSelection": [], "assetCheckSelection": selection})
    found = pages.checks("lake", "events")
    assert {name: found[name] for name in wanted} == dict.fromkeys(wanted, "SUCCEEDED")
