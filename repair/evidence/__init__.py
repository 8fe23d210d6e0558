"""Reads evidence before a plan is made: what outbox, log, lake, OLTP and views hold of the differing aggregates.

Belongs here: reading evidence. Does not belong here: decisions from it (`repair/plan.py`), changing anything.
"""
