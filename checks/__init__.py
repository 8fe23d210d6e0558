"""Dagster asset checks: comparisons, freshness in data time, expectations, drills, alerts and the sweep.

Belongs here: thin definitions that run `reconcile/` and report its verdicts. Does not belong here: how sides are read.
"""
