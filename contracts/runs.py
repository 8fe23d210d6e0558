"""Names in Dagster that its start, its limits and the graph must agree on: tags of runs, a location, a sensor.

Belongs here: the names. Does not belong here: the limits (`stack/processes/dagster_home.py`), the jobs
(`orchestration/jobs.py`).
"""

DRAIN_TAG = "tieout/drain"
"""With the pod as its value: of runs with the same value one at a time goes. The guarantee is the relay's lock."""

RECONCILIATION_TAG = "tieout/reconciliation"
"""Of comparisons one at a time goes, whatever the value; two would wait for the same build."""

INCREMENTAL = "incremental"
"""The value of that tag for a comparison of what changed and of the next part of the sweep; others look at all."""

REPAIR_TAG = "tieout/repair"
"""With the pod as its value: of repairs of a pod one at a time goes. The guarantee is the repair's own lock."""

GROUPS_TAG = "tieout/break-groups"
"""The newest incidents that a repair was started for."""

FOUND_BY_TAG = "tieout/found-by"
"""The run whose comparison found the newest of them."""

LOCATION = "tieout"
"""The code location (`workspace.yaml`). One for all: the pages run a check where they find its asset."""

KNOWN_SENSOR = "what_is_known"
"""Enters into Dagster what was found outside; the pages show that after its first look."""

SCHEDULE_TAG = "dagster/schedule_name"
"""Dagster's own: the run was started by a schedule, not by hand."""
