"""Dagster asset checks: comparisons and freshness in data time.

Belongs here: thin definitions that run `reconcile/` and report its verdicts. Does not belong here: how sides are read.
"""
