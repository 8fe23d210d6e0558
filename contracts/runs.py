"""Names in Dagster that its start, its limits and the graph share: tags of runs, the code location, a sensor.

Belongs here: the names. Does not belong here: the limits (`stack/processes/dagster_home.py`), the jobs
(`orchestration/jobs.py`).
"""

DRAIN_TAG = "tieout/drain"
"""Its value is the pod. Runs with the same value go one at a time; the relay's lock guarantees it."""

RECONCILIATION_TAG = "tieout/reconciliation"
"""Comparisons go one at a time, whatever the value, because two would wait for the same build."""

INCREMENTAL = "incremental"
"""The tag's value for an incremental comparison (changed keys and the next part of the sweep); others are complete."""

REPAIR_TAG = "tieout/repair"
"""Its value is the pod. Repairs of one pod go one at a time; the repair's own lock guarantees it."""

GROUPS_TAG = "tieout/break-groups"
"""Ids of the incidents that a repair run was started for, the newest ones."""

FOUND_BY_TAG = "tieout/found-by"
"""The run whose comparison found the newest of these incidents."""

LOCATION = "tieout"
"""The only code location (`workspace.yaml`): Dagster's pages run a check in the location of its asset."""

REPAIRER = "repairer"
"""The worker that runs repairs in its own process; also the value of its tag, and the name of its looks."""

BY_TAG = "tieout/executed-by"
"""Which worker executes a run in its own process; other runs have no such tag."""

KNOWN_SENSOR = "what_is_known"
"""The sensor that records in Dagster what was built and compared outside of it; pages show it after its first tick."""

SCHEDULE_TAG = "dagster/schedule_name"
"""Dagster's own tag: a schedule started the run, not a person."""
