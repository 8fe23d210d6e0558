"""Dagster assets: what each store holds, as nodes of one graph.

Belongs here: thin definitions that call one function below and report what it returned. Does not belong here: the work.
"""
