"""Dagster's webserver and daemon on a separate system, used through GraphQL in the same way as by the web pages.

Belongs here: starting them, launching a job, querying its result. Does not belong here: what is measured or tested with
them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.errors import StackError
from contracts.progress import SILENT
from contracts.runs import LOCATION
from contracts.settings import Settings
from contracts.waiting import wait_until
from stack.ports import free_port
from stack.processes.dagster_database import migrate_dagster
from stack.processes.dagster_home import write_dagster_home
from stack.processes.workers import dagster_programs
from stack.settings import ROOT, without_settings

DEADLINE_SECONDS = 900.0

LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
RUN_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
RUNS = """
query ($filter: RunsFilter) { runsOrError(filter: $filter, limit: 1000) {
  ... on Runs { results { runId jobName status tags { key value } } } } }
"""
LOCATIONS = """
query { workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message } } } } } }
"""
EVALUATIONS = """
query ($key: AssetKeyInput!, $check: String!) { assetCheckExecutions(assetKey: $key, checkName: $check, limit: 20) {
  runId status evaluation { success severity description metadataEntries { __typename label
    ... on TextMetadataEntry { text } ... on IntMetadataEntry { intValue } ... on UrlMetadataEntry { url }
    ... on PipelineRunMetadataEntry { runId } } } } }
"""
ASSET = """
query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  repository { location { name } } assetChecksOrError { ... on AssetChecks { checks { name jobNames } } } } } }
"""
SCHEDULES = """
query ($repository: RepositorySelector!) { schedulesOrError(repositorySelector: $repository) {
  ... on Schedules { results { name scheduleState { id } } } } }
"""
SWITCH_OFF = """
mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }
"""
ASSET_JOB = "__ASSET_JOB"
"""The job in which the pages launch assets that are selected in the graph or on an asset's page."""
REPOSITORY = "__repository__"
"""The name that Dagster gives to everything of a code location."""
FAILED = ("FAILURE", "CANCELED")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of a check, as its page shows it."""

    run_id: str
    success: bool
    description: str
    metadata: Mapping[str, Any]
    """Metadata values by label: texts and numbers; for a link to a run the run's id."""
    links: frozenset[str]
    """Labels of the metadata that the page shows as links to runs."""


@dataclass(frozen=True, kw_only=True)
class Pages:
    """A client of Dagster's webserver with the same queries as its pages."""

    address: str
    logs: Path

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.address}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        if "errors" in answer:
            raise StackError(f"Dagster refused a question: {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data

    def until(self, what: str, is_true: Callable[[], bool], *, seconds: float = DEADLINE_SECONDS) -> None:
        """Poll until `is_true()`; StackError with the last log lines after `seconds`."""
        wait_until(
            is_true,
            timeout_seconds=seconds,
            failure=lambda: f"{what}; logs in {self.logs}: {self.tail()}",
            pause_seconds_max=0.5,
        )

    def tail(self) -> str:
        """Return the last lines of the logs."""
        return "\n".join(path.read_text()[-1500:] for path in self.logs.glob("dagster-*.log"))

    def is_up(self) -> bool:
        """Return whether the code location is loaded; it is reported as an error until its server listens."""
        try:
            entries = self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
        except (urllib.error.URLError, OSError):
            return False
        found = [entry["locationOrLoadError"] for entry in entries if entry["loadStatus"] == "LOADED"]
        return [one["__typename"] for one in found if one] == ["RepositoryLocation"]

    def switch_schedules_off(self) -> None:
        """Switch off every schedule, so that nothing runs but what is launched here; sensors go on."""
        repository = {"repositoryLocationName": LOCATION, "repositoryName": REPOSITORY}
        for schedule in self.ask(SCHEDULES, repository=repository)["schedulesOrError"]["results"]:
            answer = self.ask(SWITCH_OFF, id=schedule["scheduleState"]["id"])["stopRunningSchedule"]
            if answer["__typename"] != "ScheduleStateResult":
                raise StackError(f"{schedule['name']} was not switched off: {answer}")

    def backfill(self, keys: Sequence[Sequence[str]], partitions: Sequence[str]) -> str:
        """Materialize partitions of assets as the graph page does; wait for success and return the backfill's id."""
        selection = [{"path": list(path)} for path in keys]
        params = {"assetSelection": selection, "partitionNames": list(partitions), "fromFailure": False}
        launched = self.ask(BACKFILL, params=params)["launchPartitionBackfill"]
        if launched["__typename"] != "LaunchBackfillSuccess":
            raise StackError(f"The backfill was not launched: {launched}")
        backfill_id = str(launched["backfillId"])

        def status() -> str:
            return str(self.ask(BACKFILL_STATUS, id=backfill_id)["partitionBackfillOrError"]["status"])

        self.until("the backfill did not end", lambda: status() not in ("REQUESTED", "CANCELING"))
        if status() != "COMPLETED_SUCCESS":
            raise StackError(f"The backfill ended as {status()}: {self.tail()}")
        return backfill_id

    def run(self, job: str, **params: Any) -> str:
        """Launch a job, wait until it has succeeded, and return the run's id; `location`: the job's code location."""
        run_id, status = self.ended(job, **params)
        if status in FAILED:
            raise StackError(f"{job} ended as {status}: {self.tail()}")
        return run_id

    def ended(self, job: str, **params: Any) -> tuple[str, str]:
        """Launch a job, wait until it has ended, and return the run's id and its final status."""
        selector = {
            "repositoryLocationName": params.pop("location", LOCATION),
            "repositoryName": REPOSITORY,
            "pipelineName": job,
            **params.pop("selector", {}),
        }
        answer = self.ask(LAUNCH, params={"selector": selector, "mode": "default", **params})
        launched = answer["launchPipelineExecution"]
        if launched["__typename"] != "LaunchRunSuccess":
            raise StackError(f"{job} was not launched: {launched}")
        run_id = str(launched["run"]["runId"])

        def status() -> str:
            return str(self.ask(RUN_STATUS, id=run_id)["runOrError"]["status"])

        self.until(f"{job} did not end", lambda: status() in ("SUCCESS", *FAILED))
        return run_id, status()

    def materialize(self, *paths: Sequence[str]) -> str:
        """Materialize assets as from their page, which also launches the checks in the location of the asset."""
        return self._launch(paths, has_assets=True)

    def check(self, path: Sequence[str], *names: str) -> str:
        """Execute checks as from the page of their asset; wait for success and return the run's id."""
        return self._launch([path], has_assets=False, names=names)

    def _launch(self, paths: Sequence[Sequence[str]], *, has_assets: bool, names: Sequence[str] = ()) -> str:
        nodes = [self.ask(ASSET, key={"path": list(path)})["assetNodeOrError"] for path in paths]
        (location,) = {node["repository"]["location"]["name"] for node in nodes}
        checks = [
            {"assetKey": {"path": list(path)}, "name": check["name"]}
            for path, node in zip(paths, nodes, strict=True)
            for check in node["assetChecksOrError"].get("checks", [])
            if ASSET_JOB in check["jobNames"] and (has_assets or check["name"] in names)
        ]
        assets = [{"path": list(path)} for path in paths] if has_assets else []
        selector = {"assetSelection": assets, "assetCheckSelection": checks}
        return self.run(ASSET_JOB, location=location, selector=selector)

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """Return the runs with these tags, the newest first."""
        wanted = [{"key": key, "value": value} for key, value in tags.items()]
        found = self.ask(RUNS, filter={"tags": wanted})["runsOrError"]["results"]
        return [{**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def evaluations(self, path: Sequence[str], check: str) -> list[Evaluation]:
        """Return the evaluations of a check, the newest first."""
        found = self.ask(EVALUATIONS, key={"path": list(path)}, check=check)["assetCheckExecutions"]
        return [_evaluation(one["runId"], one["evaluation"]) for one in found if one["evaluation"] is not None]


def _evaluation(run_id: str, found: Mapping[str, Any]) -> Evaluation:
    values, links = {}, set()
    for entry in found["metadataEntries"]:
        values[entry["label"]] = next(
            (entry[name] for name in ("text", "intValue", "url", "runId") if name in entry), None
        )
        if entry["__typename"] == "PipelineRunMetadataEntry":
            links.add(entry["label"])
    return Evaluation(
        run_id=run_id,
        success=found["success"],
        description=found["description"] or "",
        metadata=values,
        links=frozenset(links),
    )


@contextmanager
def running_pages(settings: Settings, logs: Path) -> Iterator[Pages]:
    """Run the webserver, the daemon and the code servers with the settings of `tieout up`; stop them afterwards.

    Sensors and schedules have their normal status.
    """
    write_dagster_home(settings)
    migrate_dagster(settings, SILENT)
    common = {**without_settings(os.environ), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    port = free_port()
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for program in dagster_programs(settings, workspace=ROOT / "workspace.yaml", port=port):
            with (logs / f"{program.name}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        program.command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        cwd=ROOT,
                        env={**common, **program.environment},
                        start_new_session=True,
                    )
                )
        yield Pages(address=f"http://127.0.0.1:{port}", logs=logs)
    finally:
        _stop(processes)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
