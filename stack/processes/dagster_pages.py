"""Whether Dagster's pages can be used: the webserver answers, the code locations are loaded, the daemon runs, and the
sensor has entered the results that were found before the start.

Belongs here: asking with the GraphQL API that the pages use. Does not belong here: starting these processes
(`stack/processes/workers.py`).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.errors import StackError
from contracts.runs import KNOWN_SENSOR, LOCATION
from contracts.settings import Settings
from stack.processes.dagster_home import dagster_url

READY = """
query ($sensor: SensorSelector!) { workspaceOrError { ... on Workspace { locationEntries { name loadStatus
    locationOrLoadError { __typename ... on PythonError { message } } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType required lastHeartbeatTime } } }
  sensorOrError(sensorSelector: $sensor) { ... on Sensor { sensorState { status
    ticks(limit: 2) { timestamp status } } } } }
"""
SENSOR = {
    "repositoryLocationName": LOCATION,
    "repositoryName": "__repository__",
    "sensorName": KNOWN_SENSOR,
}

RELOAD = """
mutation ($location: String!) { shutdownRepositoryLocation(repositoryLocationName: $location) {
  __typename ... on PythonError { message } } }
"""

ANSWER_SECONDS = 5.0
"""How long a person's command waits for an answer."""

Ask = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""Takes a GraphQL query and its variables, and returns the data. Raises OSError or HTTPException when the webserver
does not answer, ValueError when its answer is not JSON."""


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Dagster's pages since their last start."""

    address: str
    started_at: float
    """Seconds since 1970. Heartbeats and ticks before this time come from an earlier daemon."""
    answer_seconds: float = 30.0
    """How long an answer may take; a busy machine answers slowly."""

    def missing(self, ask: Ask | None = None) -> str:
        """Return in words what must still happen before the pages can be used; empty when they can be used."""
        try:
            found = (ask or self.ask)(READY, {"sensor": SENSOR})
            entries = found["workspaceOrError"]["locationEntries"]
            statuses = found["instance"]["daemonHealth"]["allDaemonStatuses"]
            sensor = found["sensorOrError"].get("sensorState")
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return "the webserver does not answer yet (dagster-webserver.log)"
        locations = [_location(entry) for entry in entries]
        daemons = [
            one["daemonType"] for one in statuses if one["required"] and not self._is_at_work(one["lastHeartbeatTime"])
        ]
        if not entries:
            return "no code location is known yet (dagster-webserver.log)"
        if daemons:
            locations.append(f"the daemon has not begun with {', '.join(sorted(daemons)).lower()} (dagster-daemon.log)")
        elif not any(locations) and not self._has_looked(sensor):
            locations.append("what was found so far is being entered (dagster-daemon.log)")
        return "; ".join(filter(None, locations))

    def reload(self, locations: Sequence[str], ask: Ask | None = None) -> None:
        """Tell code servers to end after their runs; the supervisor starts them again with the present code.

        Raises StackError when the pages do not answer, or a code server cannot be told to end.
        """
        for location in locations:
            try:
                answer = (ask or self.ask)(RELOAD, {"location": location})["shutdownRepositoryLocation"]
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                raise StackError(f"Dagster's pages at {self.address} do not answer; see `tieout status`.") from None
            if answer["__typename"] != "ShutdownRepositoryLocationSuccess":
                said = answer.get("message", answer["__typename"])
                raise StackError(f"The code server of {location} cannot be told to end: {said}")

    def ask(self, query: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the data of a GraphQL query."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=self.answer_seconds)
        try:
            body = json.dumps({"query": query, "variables": variables})
            connection.request("POST", "/graphql", body=body, headers={"Content-Type": "application/json"})
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        data: Mapping[str, Any] = answer["data"]
        return data

    def _has_looked(self, sensor: Mapping[str, Any] | None) -> bool:
        """Return whether the sensor has ended a tick since the start, or is off and never will. Failed ticks count."""
        if sensor is None or sensor["status"] != "RUNNING":
            return True
        # The newest tick may still run; then the tick before it decides.
        return any(tick["timestamp"] >= self.started_at and tick["status"] != "STARTED" for tick in sensor["ticks"])

    def _is_at_work(self, heartbeat: float | None) -> bool:
        return heartbeat is not None and heartbeat >= self.started_at


def pages_missing(settings: Settings, *, answer_seconds: float = ANSWER_SECONDS) -> str:
    """Return in words why Dagster's pages cannot be used; empty when they can be used or were not started here."""
    address = dagster_url(settings)
    if address is None:
        return ""
    return Pages(address=address, started_at=0.0, answer_seconds=answer_seconds).missing()


def _location(entry: Mapping[str, Any]) -> str:
    """Return what is wrong with a code location; empty when it is loaded."""
    log = f"dagster-code-{entry['name']}.log"
    if entry["loadStatus"] != "LOADED":
        return f"code location {entry['name']} is loading ({log})"
    found = entry["locationOrLoadError"] or {"__typename": "PythonError"}
    if found["__typename"] == "PythonError":
        return f"code location {entry['name']} has not answered yet ({log})"
    return ""
