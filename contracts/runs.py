"""Tags of Dagster's runs that the instance's limits and the jobs must agree on.

Belongs here: the names. Does not belong here: the limits (`stack/dagster_home.py`), the jobs (`orchestration/jobs.py`).
"""

DRAIN_TAG = "tieout/drain"
"""With the pod as its value: of runs with the same value one at a time goes. The guarantee is the relay's lock."""

RECONCILIATION_TAG = "tieout/reconciliation"
"""Of comparisons one at a time goes, whatever the value; two would wait for the same build."""
